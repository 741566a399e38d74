import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { argv, env, pid, umask } from 'node:process';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { Call } from './base/call.ts';
import { CrioError, messageOf } from './base/errors.ts';
import { failpoint } from './base/failpoint.ts';
import type { Logger } from './base/log.ts';
import { runtimeVersion } from './base/version.ts';
import { openCgroups } from './cgroup/cgroups.ts';
import { runCli, type DaemonStart } from './cli/run.ts';
import { registriesFlags } from './cli/registries-flags.ts';
import { crioContainer } from './cli/store-access.ts';
import type { Config, RuntimeHandlerConfig } from './config/config.ts';
import { defaultMinMemory, parseMemory } from './config/memory.ts';
import { createContainers, type Containers } from './container/containers.ts';
import { bindService } from './cri/dispatch.ts';
import { ImageService, RuntimeService } from './cri/gen/api_pb.ts';
import { createImageService } from './cri/image-service.ts';
import { listenOnSocket } from './cri/listen.ts';
import { openOwnStatus } from './cri/own-status.ts';
import { createRuntimeService } from './cri/runtime-service.ts';
import { statusWithMessage } from './cri/status-with-message.ts';
import { markRunning, markStopped, wasStoppedCleanly } from './daemon/clean-shutdown.ts';
import { endOnUncaughtErrors } from './daemon/crash.ts';
import { endAnyway } from './daemon/end-anyway.ts';
import { notifyServiceManager } from './daemon/notify.ts';
import { waitForStopSignal } from './daemon/stop-signals.ts';
import { writeVersionFile } from './daemon/version-file.ts';
import { startWatchdog, watchdogTimeoutMs } from './daemon/watchdog.ts';
import { wipeStale } from './daemon/wipe-stale.ts';
import { fetchSeccompProfile } from './image/artifacts/seccomp-profile.ts';
import { createImages } from './image/create-images.ts';
import { createMetrics, type Metrics } from './metrics/metrics.ts';
import { createNetwork } from './network/network.ts';
import { createPods, type Pods } from './pod/pods.ts';
import { watchExits } from './runtime/exits.ts';
import type { ContainerRuntime } from './runtime/runtime.ts';
import { createRuntimeTable } from './runtime/runtime-table.ts';
import { specSettings } from './runtime/spec/settings.ts';
import { readHostFacts } from './security/host-facts.ts';
import { ImageMounts } from './security/image-mounts.ts';
import { createPodSeccomp } from './security/pod-seccomp.ts';
import { createPrepare } from './security/prepare-container.ts';
import { SeccompCache } from './security/seccomp-cache.ts';
import { createStats } from './stats/create-stats.ts';
import { statusListener } from './status-api/listener.ts';
import { openStore } from './storage/open-store.ts';
import { createStreaming } from './stream/streaming.ts';
import { releaseUnusedMemory } from './sys/memory.ts';
import { alarm, closeOnExecInherited, setChildSubreaper } from './sys/process.ts';
import { runFirst } from './sys/priority.ts';
import { startReaper } from './sys/reaper.ts';

/**
 * The composition root: the only place that constructs the parts and connects them. Order of start and stop are
 * CRI-O's (docs/architecture.md); everything opened is closed in the opposite order by one disposable stack.
 */
export async function main(args: readonly string[]): Promise<number> {
  return runCli(args, env, {
    startDaemon: (start) => startDaemon(start).finally(() => endAnyway(start.log)),
    openStore: (config, log) => openConfiguredStore(config.crio, log),
  });
}

/** After so long the start is over, and what only it needed can be given back. */
const settledMs = 2000;
/** Requests may take `drainLimitMs` of it. */
const stopLimitSeconds = 60;

async function startDaemon(start: DaemonStart): Promise<number> {
  const { log } = start;
  log.info(`Starting CRI-O, version: ${runtimeVersion}`);
  umask(0o022);
  closeOnExecInherited();
  setChildSubreaper();
  try {
    runFirst();
  } catch (error) {
    log.debug(() => `The main thread runs with the usual priority: ${messageOf(error)}`);
  }
  const config = () => start.config;
  const watchdogMs = watchdogTimeoutMs(start.env, pid);
  await using stack = new AsyncDisposableStack();
  stack.use(endOnUncaughtErrors(log));
  stack.use(startReaper());
  const daemon = await construct(start, stack);
  const drain = await serve(daemon, stack);
  await restore(daemon);
  stack.use(watchContainerExits(daemon));
  await daemon.metrics.listen();
  stack.use(lookForDamage(daemon, await markStarted(config(), log)));
  daemon.ready();
  notifyServiceManager(start.env['NOTIFY_SOCKET'], 'READY=1', log);
  if (watchdogMs !== undefined) stack.use(watchOwnHealth(daemon, stack, watchdogMs));
  log.info(`Serving on ${config().api.listen}`);
  setTimeout(
    () => void releaseUnusedMemory().catch((error: unknown) => log.debug(messageOf(error))),
    settledMs,
  ).unref();
  reloadOnHangup(start, daemon);
  const signal = await waitForStopSignal();
  log.info(`Received ${signal}, shutting down`);
  // What is closed below may wait for a thread that hangs.
  alarm(stopLimitSeconds);
  notifyServiceManager(start.env['NOTIFY_SOCKET'], 'STOPPING=1', log);
  daemon.shutdown.abort(new CrioError('unavailable', 'the daemon is shutting down'));
  await drain();
  await stack.disposeAsync();
  await markStopped(config().crio.cleanShutdownFile);
  return 0;
}

/** For a unit with `WatchdogSec=`, as CRI-O's has. */
function watchOwnHealth({ config, shutdown, log }: Daemon, stack: AsyncDisposableStack, timeoutMs: number) {
  const status = stack.use(openOwnStatus(config().api.listen));
  return startWatchdog({
    timeoutMs,
    check: (limitMs) => status.check(limitMs),
    notify: (state) => notifyServiceManager(env['NOTIFY_SOCKET'], state, log),
    signal: shutdown.signal,
    log,
  });
}

/** Files of the configuration and registries.conf are read again; what is wrong in them is logged, the old values stay. */
function reloadOnHangup(start: DaemonStart, { images, runtimeTable, log }: Daemon): void {
  process.on('SIGHUP', () => {
    start.reload();
    runtimeTable.reload(start.config).catch((error: unknown) => log.error('Unable to reload runtimes', error));
    images.reload(start.config).catch((error: unknown) => log.error('Unable to reload registry configuration', error));
  });
}

type Daemon = Awaited<ReturnType<typeof construct>>;

/** Builds every part; nothing answers requests yet. */
async function construct(start: DaemonStart, stack: AsyncDisposableStack) {
  const { log, flags } = start;
  const config = () => start.config;
  const { crio, runtime } = config();
  await Promise.all(
    [runtime.containerExitsDir, runtime.containerAttachSocketDir].map((folder) =>
      mkdir(folder, { recursive: true, mode: 0o755 }),
    ),
  );
  const shutdown = new AbortController();
  const host = readHostFacts();
  const store = stack.use(await openConfiguredStore(crio, log));
  const seccompCache = new SeccompCache(log);
  const metrics: Metrics = stack.use(await createMetrics({ config, log, pulls: () => images.pulls() }));
  const [images, runtimeTable, network] = await Promise.all([
    createImages({
      store,
      config: config(),
      log,
      registries: registriesFlags(flags),
      newCall: (name, signal) => newCall(name, log, signal),
      volumeUser: (imageId) =>
        containers.list().find(({ mounts }) => mounts.some(({ image }) => image === imageId))?.id,
      decryptionKeysPath: () => config().runtime.decryptionKeysPath,
      additionalArtifactStores: runtime.additionalArtifactStores,
      beforeDelete: (imageId) => imageMounts.unmount(imageId),
      onPull: metrics.pull,
    }),
    createRuntimeTable({
      config: config(),
      log,
      recordFile: `${dirname(runtime.containerExitsDir)}/handlers.json`,
      processesOf: (id) => containers.processes(id),
      onCreated: (_handler, id, stateDirectory) => seccompCache.created(id, stateDirectory),
    }),
    createNetwork({ config: config(), log }),
  ]);
  const { runtimes } = runtimeTable;
  stack.use(images);
  stack.use(network);
  const cgroups = openCgroups({ manager: runtime.cgroupManager === 'systemd' ? 'systemd' : 'cgroupfs' });
  const settingsOf = (handler: RuntimeHandlerConfig) =>
    specSettings({
      config: config(),
      handler,
      containerMinMemory: parseMemory(handler.containerMinMemory) ?? defaultMinMemory,
    });
  const imageMounts = new ImageMounts({
    images,
    layers: store.layers,
    directory: `${dirname(runtime.containerExitsDir)}/image-mounts`,
  });
  // Pods and containers know each other through these functions only.
  const pods: Pods = createPods({
    config,
    store,
    images,
    runtimes,
    network,
    cgroups,
    host,
    specSettings: settingsOf,
    chooseSeccomp: createPodSeccomp({ config, host }),
    containersOf: (podId) =>
      containers.allOfPod(podId).map(({ id, state }) => ({ id, isRunning: state.status !== 'stopped' })),
    stopContainer: (call, id, timeoutMs) => containers.stopForPod(call, id, timeoutMs),
    removeContainer: (call, id) => containers.removeForPod(call, id),
    onStalled: metrics.stalled,
    onNetworkSetUp: metrics.networkSetUp,
    shutdown: shutdown.signal,
    log,
  });
  const containers: Containers = stack.use(
    createContainers({
      config,
      store,
      images,
      runtimes,
      cgroups,
      log,
      findPod: (id) => pods.find(id),
      verifyImage: (use) => images.verifyUse(use),
      onStalled: metrics.stalled,
      onMonitorLost: ({ name }) => metrics.monitorLost(name),
      onEvent({ type, container: { name, state } }) {
        if (type === 'stopped' && state.oomKilled) metrics.oomKilled(name);
      },
      onRemoved: ({ name }) => metrics.containerRemoved(name),
      prepare: createPrepare({
        config,
        host,
        storageRoot: store.graphRoot,
        mountImage: (reference) => imageMounts.mount(reference),
        fetchSeccompProfile: (call, reference, namespace) =>
          fetchSeccompProfile(images, call, { reference, namespace }),
        seccompCache,
      }),
    }),
  );
  const stats = createStats({
    cgroups,
    containersOf: (podId) => containers.ofPod(podId),
    upperDirectory: (id) => store.containers.upperDirectory(id),
    collectionPeriod: config().stats.collectionPeriod,
    log,
  });
  const streaming = stack.use(
    await createStreaming({
      config,
      requireExecutable: (id) => containers.requireExecutable(id),
      runtimeOf: ({ runtimeHandler }) => runtimeOf(runtimes, config(), runtimeHandler),
      findPod: (id) => pods.find(id),
      log,
    }),
  );
  const { promise: isReady, resolve: ready } = Promise.withResolvers<void>();
  return {
    config,
    log,
    shutdown,
    store,
    images,
    runtimes,
    runtimeTable,
    network,
    pods,
    containers,
    stats,
    streaming,
    metrics,
    isReady,
    ready,
  };
}

/** An empty handler name means the default one. */
function runtimeOf(
  runtimes: ReadonlyMap<string, ContainerRuntime>,
  { runtime: { defaultRuntime } }: Config,
  handler: string,
): ContainerRuntime {
  const name = handler === '' ? defaultRuntime : handler;
  const runtime = runtimes.get(name);
  if (runtime === undefined)
    throw new CrioError('not-found', `failed to find runtime handler ${name} from runtime list`);
  return runtime;
}

function openConfiguredStore(
  crio: Pick<Config['crio'], 'root' | 'runroot' | 'imagestore' | 'storageDriver' | 'storageOption'>,
  log: Logger,
) {
  return openStore({
    graphRoot: crio.root,
    runRoot: crio.runroot,
    imageStore: crio.imagestore,
    driver: crio.storageDriver,
    options: crio.storageOption,
    log,
    ...(crashAt === undefined ? {} : { onStep: crashAt }),
  });
}

const drainLimitMs = 30_000;

/**
 * Opens the socket. Connections queue up until the daemon has read what an earlier one left. The function it returns
 * lets running requests finish; operations that outlive it are undone at the next start.
 */
async function serve(daemon: Daemon, stack: AsyncDisposableStack): Promise<() => Promise<void>> {
  const { config, log, store, images, pods, containers, stats, metrics } = daemon;
  const { api } = config();
  const grpc = new Server({
    'grpc.max_receive_message_length': api.grpcMaxRecvMsgSize,
    'grpc.max_send_message_length': api.grpcMaxSendMsgSize,
    // Nobody can ask for these statistics, and each call pays for them.
    'grpc.enable_channelz': 0,
    interceptors: [statusWithMessage(api.grpcMaxSendMsgSize)],
  });
  stack.defer(() => grpc.forceShutdown());
  const folder = (root: string, kind: string) => `${root}/${store.driverName}-${kind}`;
  const hasImageStore = store.imageStore !== '';
  const services = [
    bindService(RuntimeService, createRuntimeService({ ...daemon, version: runtimeVersion }), {
      log,
      onStage,
      onDone: metrics.operationDone,
    }),
    bindService(
      ImageService,
      createImageService({
        images,
        mountPoints: {
          images: folder(hasImageStore ? store.imageStore : store.graphRoot, 'images'),
          containers: folder(store.graphRoot, hasImageStore ? 'containers' : 'images'),
        },
        containerUsage: hasImageStore ? () => stats.ofWritableLayers(containers.list()) : undefined,
      }),
      { log, onStage, onDone: metrics.operationDone },
    ),
  ];
  for (const { definition, implementation } of services) grpc.addService(definition, implementation);
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const onHttp1 = statusListener(
    {
      config,
      storage: store,
      findContainer: (id) => exactly(containers.find(id), id),
      knownContainer: (id) => containers.known(id),
      knownPod: (id) => pods.known(id),
      containersOf: (podId) => containers.ofPod(podId),
      pause: (id) => containers.pause(newCall('pause', log), id),
      unpause: (id) => containers.resume(newCall('unpause', log), id),
      pulls: {
        list: () => images.pulls(),
        pull: async (target, signal) =>
          (await images.pull(newCall('PullImage', log, signal), { ...target, cgroupParent: '' })).id,
      },
      explainPolicy: (name, namespace, check) => images.explainPolicy(name, namespace, check),
    },
    log,
  );
  const whenReady =
    <T extends unknown[]>(handle: (...args: T) => void) =>
    (...args: T) =>
      void daemon.isReady.then(() => handle(...args));
  const socket = stack.use(
    await listenOnSocket({
      path: api.listen,
      onHttp2: whenReady((socket) => injector.injectConnection(socket)),
      onHttp1: whenReady(onHttp1),
    }),
  );
  return async () => {
    // The server itself knows nothing of connections that it did not accept.
    injector.drain(drainLimitMs);
    await socket.drained();
  };
}

/** The HTTP API looks ids up whole, without prefixes. */
function exactly<T extends { readonly id: string }>(found: T | undefined, id: string): T | undefined {
  return found?.id === id ? found : undefined;
}

const crashAt = failpoint();
const onStage = crashAt === undefined ? undefined : (_call: Call, stage: string) => crashAt(stage);

function newCall(name: string, log: Logger, signal?: AbortSignal): Call {
  const id = randomUUID();
  return new Call({
    name,
    id,
    log: log.with({ id, name }),
    onStage,
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Takes over what an earlier daemon left, and watches exits from then on. */
async function restore({ config, log, store, images, pods, containers, network, shutdown }: Daemon): Promise<void> {
  const call = newCall('restore', log);
  await pods.restore(call);
  await containers.restore(call);
  const { crio } = config();
  if (crio.internalWipe) {
    await wipeStale({
      versionFile: crio.versionFile,
      versionFilePersist: crio.versionFilePersist,
      version: runtimeVersion,
      podIds: () => pods.list().map(({ id }) => id),
      removePod: (id) => pods.remove(call, id),
      usedImages: async () => (await store.containers.list()).filter(crioContainer).map(({ imageId }) => imageId),
      removeImage: (id) => images.remove(call, id),
      log,
    });
  }
  network
    .gc(
      pods.list().map(({ id }) => id),
      shutdown.signal,
    )
    .catch((error: unknown) => log.warn('clean up networks', error));
}

/** Ends of containers and of kept infra containers, also those that happened while no daemon ran. */
function watchContainerExits({ config, log, pods, containers, store }: Daemon): AsyncDisposable {
  return watchExits({
    dir: config().runtime.containerExitsDir,
    log,
    persistDirOf: (id) => store.containers.directory(id),
    onExit: async (record) => (await containers.handleExit(record)) || pods.handleExit(record),
  });
}

/** In the background, until the daemon stops: after an unclean stop also at the contents of all images and artifacts. */
function lookForDamage({ config, store, images }: Daemon, wasClean: boolean): AsyncDisposable {
  const stop = new AbortController();
  const { signal } = stop;
  const look = async () => {
    if (!config().crio.internalRepair) return;
    await store.health.walk({ contents: !wasClean, signal });
    if (!wasClean) await images.lookAtArtifacts(signal);
  };
  const walk = look();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort(new CrioError('canceled', 'the daemon is shutting down'));
      await walk;
    },
  };
}

/** Tells whether the last stop was clean. */
async function markStarted({ crio }: Config, log: Logger): Promise<boolean> {
  const wasClean = await wasStoppedCleanly(crio.cleanShutdownFile);
  if (!wasClean) log.warn('The last stop was not clean; what was interrupted has been undone');
  await writeVersionFile(crio.versionFile, runtimeVersion);
  await writeVersionFile(crio.versionFilePersist, runtimeVersion);
  await markRunning(crio.cleanShutdownFile);
  return wasClean;
}

if (import.meta.main) process.exitCode = await main(argv.slice(2));
