import { mkdirSync, mkdtempSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { Call } from '../base/call.ts';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { openCgroups, type Cgroups } from '../cgroup/cgroups.ts';
import { defaultConfig, emptyHandler } from '../config/config.ts';
import type { Image } from '../image/images.ts';
import type { PodConfig } from '../pod/config.ts';
import type { Pod } from '../pod/pod.ts';
import type { ContainerRuntime, CreateOptions, ProcessRef, RuntimeState } from '../runtime/runtime.ts';
import { annotationKey as key } from '../runtime/spec/annotation-keys.ts';
import { mapJson, metadataJson, rfc3339Nano, volumesJson } from '../runtime/spec/cri-json.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import type { ContainerRecord, ContainerStore, Store } from '../storage/store.ts';
import type { ContainerConfig } from './config.ts';
import type { Container } from './container.ts';
import type { ContainerEvent, ContainersDeps } from './context.ts';
import { createContainers, type Containers } from './containers.ts';
import type { PrepareRequest, PreparedContainer } from './prepare.ts';
import type { Processes } from './processes.ts';

/** Stand-ins for the host that keep state, for the tests of this folder: a container here is a made-up process. */

interface FakeProcess {
  readonly ref: ProcessRef;
  readonly ended: PromiseWithResolvers<void>;
  alive: boolean;
  hasHandler: boolean;
  /** Exit code when a signal it handles arrives; undefined: it goes on. */
  onSignal: number | undefined;
  readonly signals: number[];
  /** False: the monitor was killed and reports nothing. */
  isMonitored: boolean;
  options: CreateOptions | undefined;
  status: RuntimeState['status'];
}

export class FakeHost {
  readonly root = mkdtempSync(`${tmpdir()}/crio-ts-container-`);
  readonly byContainer = new Map<string, FakeProcess>();
  readonly calls: string[] = [];
  readonly mounted = new Set<string>();
  /** So often another program hides a root file system while it is used. */
  lostRoots = 0;
  readonly records = new Map<string, ContainerRecord>();
  readonly pods = new Map<string, Pod>();
  readonly events: ContainerEvent[] = [];
  /** Held open to stall the creation of containers. */
  createGate: Promise<void> = Promise.resolve();
  failCreate: Error | undefined;
  failStart: Error | undefined;
  /** What the next calls of `state` fail with, one after the other. */
  readonly failState: Error[] = [];
  containers: Containers;
  #nextPid = 1000;
  readonly #byPid = new Map<number, FakeProcess>();

  constructor() {
    mkdirSync(`${this.root}/exits`);
    mkdirSync(`${this.root}/log`);
    this.addPod('a'.repeat(64));
    this.containers = this.startDaemon();
  }

  /** A daemon without memory on the same host, as after kill -9. */
  startDaemon(change: Partial<ContainersDeps> = {}): Containers {
    this.containers?.[Symbol.dispose]();
    this.containers = createContainers({ ...this.#deps(), ...change });
    return this.containers;
  }

  [Symbol.dispose](): void {
    this.containers[Symbol.dispose]();
    rmSync(this.root, { recursive: true });
  }

  call(signal?: AbortSignal): Call {
    return new Call({ name: 'test', id: '1', log: silentLog, ...(signal === undefined ? {} : { signal }) });
  }

  require(id: string): Container {
    const found = this.containers.find(id);
    if (found === undefined) throw new Error(`no container ${id}`);
    return found;
  }

  process(id: string): FakeProcess {
    const found = this.byContainer.get(id);
    if (found === undefined) throw new Error(`no process of container ${id}`);
    return found;
  }

  /** The process ends; its monitor, if any, writes the exit file and reports. */
  end(id: string, exitCode: number): void {
    const process = this.process(id);
    if (!process.alive) return;
    process.alive = false;
    process.status = 'stopped';
    process.ended.resolve();
    if (!process.isMonitored) return;
    this.writeExitFile(id, exitCode);
    const finishedAtNs = statSync(`${this.root}/containers/${id}/exit`, { bigint: true }).ctimeNs;
    void this.containers.handleExit({ containerId: id, exitCode, finishedAtNs, oomKilled: false });
  }

  killMonitor(id: string): void {
    this.process(id).isMonitored = false;
    const monitor = this.#byPid.get((this.require(id).state.monitor ?? this.process(id).ref).pid);
    if (monitor !== undefined) monitor.alive = false;
  }

  writeExitFile(id: string, exitCode: number): void {
    writeFileSync(`${this.root}/containers/${id}/exit`, String(exitCode));
  }

  addPod(id: string, change: Partial<Pod> = {}): Pod {
    const pod = { ...fakePod(id, this.root), ...change };
    this.pods.set(id, pod);
    this.records.set(id, fakeRecord(id, ['pod'], JSON.stringify({ 'pod-name': pod.name, 'pod-id': id, pod: true })));
    return pod;
  }

  #deps(): ContainersDeps {
    const config = defaultConfig();
    const { runtimes, defaultRuntime } = config.runtime;
    const runtimeRoot = `${this.root}/runtime`;
    return {
      config: () => ({
        ...config,
        runtime: {
          ...config.runtime,
          containerExitsDir: `${this.root}/exits`,
          containerAttachSocketDir: `${this.root}/attach`,
          runtimes: new Map([[defaultRuntime, { ...(runtimes.get(defaultRuntime) ?? emptyHandler()), runtimeRoot }]]),
        },
      }),
      store: this.#store(),
      images: {
        find: async (name) => (name === 'missing' ? undefined : fakeImage),
        findArtifact: async () => undefined,
      },
      runtimes: new Map([[config.runtime.defaultRuntime, this.#runtime()]]),
      cgroups: this.#cgroups(),
      log: silentLog,
      clock: systemClock,
      findPod: (id) => this.pods.get(id),
      prepare: async (request) => this.#prepare(request),
      onEvent: (event) => this.events.push(event),
      processes: this.#processes(),
    };
  }

  #cgroups(): Cgroups {
    const root = `${this.root}/cgroup`;
    const controllers = new Map(['memory', 'pids'].map((name) => [name, root]));
    return openCgroups({
      manager: 'cgroupfs',
      hierarchies: { version: 'v1', controllers, roots: [root], unified: undefined },
    });
  }

  async #prepare(request: PrepareRequest): Promise<PreparedContainer> {
    const rootfs = await request.mountRootfs();
    return {
      spec: fakeSpec(request, rootfs),
      volumes: request.config.mounts,
      annotations: request.config.annotations,
      stopSignal: request.config.stopSignal,
    };
  }

  #processes(): Processes {
    const find = (ref: ProcessRef) => {
      const process = this.#byPid.get(ref.pid);
      return process?.alive === true && process.ref.startTime === ref.startTime ? process : undefined;
    };
    return {
      isAlive: (ref) => find(ref) !== undefined,
      signal: (ref, signal) => {
        const process = find(ref);
        if (process === undefined) return false;
        this.#deliver(process, signal);
        return true;
      },
      async waitForEnd(ref, signal) {
        const process = find(ref);
        if (process === undefined) return;
        const { promise, reject } = Promise.withResolvers<never>();
        const onAbort = () => reject(signal.reason);
        signal.addEventListener('abort', onAbort, { once: true });
        await Promise.race([process.ended.promise, promise]);
      },
      identify: (pid) => this.#byPid.get(pid)?.ref,
      readStatus: (ref) => {
        const process = find(ref);
        return process && { name: 'program', innerPid: 1, hasHandler: () => process.hasHandler };
      },
    };
  }

  #deliver(process: FakeProcess, signal: number): void {
    process.signals.push(signal);
    if (process.options === undefined) {
      // A monitor: it ends alone.
      process.alive = signal !== 9;
      return;
    }
    const { id } = process.options;
    if (signal === 9) setImmediate(() => this.end(id, 137));
    const code = process.onSignal;
    if (signal !== 9 && process.hasHandler && code !== undefined) setImmediate(() => this.end(id, code));
  }

  #spawn(options: CreateOptions | undefined, startTime: string): FakeProcess {
    const process: FakeProcess = {
      ref: { pid: (this.#nextPid += 1), startTime },
      ended: Promise.withResolvers(),
      alive: true,
      hasHandler: true,
      onSignal: 0,
      signals: [],
      isMonitored: true,
      options,
      status: 'created',
    };
    this.#byPid.set(process.ref.pid, process);
    return process;
  }

  #runtime(): ContainerRuntime {
    const record = (verb: string, id: string) => this.calls.push(`${verb} ${id}`);
    return {
      handler: 'crun',
      features: { version: 'fake', ociVersion: '1.0.2', recursiveReadOnlyMounts: false, idmapMounts: false },
      create: async (_, options) => {
        record('create', options.id);
        await this.createGate;
        if (this.failCreate !== undefined) throw this.failCreate;
        const process = this.#spawn(options, '77');
        this.byContainer.set(options.id, process);
        return { init: process.ref, monitor: this.#spawn(undefined, '76').ref };
      },
      start: async (_, id) => {
        record('start', id);
        if (this.failStart !== undefined) throw this.failStart;
        this.process(id).status = 'running';
      },
      kill: async (_, id, signal) => {
        record('kill', id);
        this.#deliver(this.process(id), signal);
      },
      delete: async (_, id) => {
        record('delete', id);
        if (this.byContainer.has(id)) this.end(id, 137);
        this.byContainer.delete(id);
      },
      state: async (_, id) => {
        record('state', id);
        const failure = this.failState.shift();
        if (failure !== undefined) throw failure;
        const process = this.byContainer.get(id);
        if (process === undefined) return undefined;
        const { pid } = process.ref;
        const bundle = `${this.root}/run/${id}`;
        return { ociVersion: '1.0.0', id, status: process.status, pid, bundle, created: '', annotations: {} };
      },
      pause: async (_, id) => void record('pause', id),
      resume: async (_, id) => void record('resume', id),
      update: async (_, id) => void record('update', id),
      execSync: async (_, { id, process }) => {
        record('exec', id);
        return {
          stdout: Buffer.from((process.args ?? []).join(' ')),
          stderr: Buffer.alloc(0),
          exitCode: 0,
          timedOut: false,
        };
      },
      execStream: () => Promise.reject(new Error('no streams in this fake')),
      attach: () => Promise.reject(new Error('no streams in this fake')),
      reopenLog: async () => {},
    };
  }

  #store(): Store {
    const containers: ContainerStore = {
      list: async () => [...this.records.values()],
      find: async (id) => this.records.get(id) ?? [...this.records.values()].find(({ names }) => names.includes(id)),
      create: async ({ id, names, metadata }) => {
        mkdirSync(containers.directory(id), { recursive: true });
        mkdirSync(containers.runDirectory(id), { recursive: true });
        const record = fakeRecord(id, names, metadata);
        this.records.set(id, record);
        return record;
      },
      setMetadata: async () => {},
      delete: async (id) => {
        this.records.delete(id);
        this.mounted.delete(id);
        rmSync(containers.directory(id), { recursive: true, force: true });
        rmSync(containers.runDirectory(id), { recursive: true, force: true });
      },
      mount: async (id) => {
        this.mounted.add(id);
        return containers.mountPoint(id);
      },
      unmount: async (id) => void this.mounted.delete(id),
      directory: (id) => `${this.root}/containers/${id}`,
      runDirectory: (id) => `${this.root}/run/${id}`,
      rootWasLost: async () => this.lostRoots > 0 && this.lostRoots-- > 0,
      upperDirectory: () => undefined,
      mountPoint: (id) => `${this.root}/merged/${id}`,
    };
    // The container feature uses no other part of the store.
    return { containers, runRoot: `${this.root}/run` } as unknown as Store;
  }

  removeFile(path: string): void {
    unlinkSync(path);
  }
}

function fakeRecord(id: string, names: readonly string[], metadata: string): ContainerRecord {
  return {
    id,
    names,
    imageId: 'i'.repeat(64),
    layerId: '',
    metadata,
    createdNs: 0n,
    mountLabel: '',
    uidMap: [],
    gidMap: [],
  };
}

function fakeSpec({ config, id, name, pod, logPath, createdAtNs }: PrepareRequest, rootfs: string): Spec {
  return {
    ociVersion: '1.0.2',
    process: { user: { uid: 0, gid: 0 }, args: ['sleep'], cwd: '/' },
    root: { path: rootfs },
    annotations: {
      [key.manager]: 'cri-o',
      [key.containerType]: 'container',
      [key.name]: name,
      [key.containerId]: id,
      [key.sandboxId]: pod.id,
      [key.metadata]: metadataJson(config.metadata),
      [key.labels]: mapJson(config.labels, 'null'),
      [key.annotations]: mapJson(config.annotations, 'null'),
      [key.volumes]: volumesJson(config.mounts),
      [key.image]: config.image,
      [key.imageName]: fakeImage.repoTags[0] ?? '',
      [key.imageRepoDigests]: fakeImage.repoDigests.join(','),
      [key.logPath]: logPath,
      [key.tty]: String(config.tty),
      [key.created]: rfc3339Nano(createdAtNs),
      [key.mountPoint]: rootfs,
    },
    linux: { namespaces: [{ type: 'pid' }] },
  };
}

export const fakeImage: Image = {
  id: 'i'.repeat(64),
  repoTags: ['registry.example/busybox:1'],
  repoDigests: [`registry.example/busybox@sha256:${'d'.repeat(64)}`],
  digest: undefined,
  sizeBytes: 1,
  pinned: false,
  topLayer: undefined,
  config: {
    user: '',
    env: [],
    entrypoint: [],
    cmd: ['sh'],
    workingDir: '',
    labels: new Map(),
    stopSignal: '',
    volumes: [],
    architecture: 'amd64',
    os: 'linux',
    document: {},
  },
  annotations: new Map(),
};

function fakePod(id: string, root: string): Pod {
  return {
    id,
    name: `k8s_pod_ns_${id.slice(0, 4)}_0`,
    metadata: podConfig.metadata,
    labels: new Map(),
    annotations: new Map(),
    createdAtNs: 1n,
    runtimeHandler: '',
    hostname: 'host',
    cgroupParent: '',
    logDirectory: `${root}/log`,
    namespaceOptions: { network: 0, pid: 1, ipc: 0, targetId: '', userns: undefined },
    hostNetwork: false,
    privileged: false,
    portMappings: [],
    sysctls: new Map(),
    uidMap: [],
    gidMap: [],
    namespacePaths: new Map(),
    directory: '',
    runDirectory: '',
    shmPath: '',
    resolvPath: '',
    hostnamePath: '',
    containerEnvPath: '',
    mountLabel: '',
    processLabel: '',
    infraName: '',
    infraImage: '',
    infra: undefined,
    infraDropped: true,
    ips: [],
    isReady: true,
    isStopping: false,
    isNetworkStopped: false,
    spec: {},
  };
}

export const podConfig: PodConfig = {
  metadata: { name: 'pod', uid: 'uid', namespace: 'ns', attempt: 0 },
  hostname: '',
  logDirectory: '',
  dns: { servers: [], searches: [], options: [] },
  portMappings: [],
  labels: new Map(),
  annotations: new Map(),
  cgroupParent: '',
  securityContext: undefined,
  sysctls: new Map(),
  overhead: undefined,
  resources: undefined,
};

export function containerConfig(change: Partial<ContainerConfig> = {}): ContainerConfig {
  return {
    metadata: { name: 'main', attempt: 0 },
    image: 'busybox',
    userSpecifiedImage: '',
    imageAnnotations: new Map(),
    command: [],
    args: [],
    workingDir: '',
    envs: [],
    mounts: [],
    devices: [],
    labels: new Map([['app', 'x']]),
    annotations: new Map(),
    logPath: '',
    stdin: false,
    stdinOnce: false,
    tty: false,
    resources: undefined,
    securityContext: undefined,
    cdiDevices: [],
    stopSignal: 0,
    ...change,
  };
}
