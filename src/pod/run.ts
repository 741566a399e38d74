import { randomUUID } from 'node:crypto';
import { hostname as hostHostname } from 'node:os';
import type { Call } from '../base/call.ts';
import { wrap } from '../base/errors.ts';
import { newId } from '../base/ids.ts';
import type { Image } from '../image/images.ts';
import { annotationKey } from '../runtime/spec/annotation-keys.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import { encodeSpec } from '../runtime/spec/spec-json.ts';
import { createInfraCgroup } from './cgroup.ts';
import { buildSpec } from './build-spec.ts';
import type { PodConfig } from './config.ts';
import { handlerFor, type Context, type HandlerOf } from './context.ts';
import { prepareLog, readHostResolvConf, replaceFile, replaceFileNow, writeOwned } from './files.ts';
import { startInfra, type StartedInfra } from './infra.ts';
import { checkMetadata, podName } from './names.ts';
import { pinPodNamespaces, unpinPodNamespaces } from './namespaces.ts';
import { formatResolvConf } from './network-files.ts';
import { planPod, type PodPlan } from './plan.ts';
import type { Pod } from './pod.ts';
import { podOf, type PodPlaces } from './pod-of.ts';
import { saveState } from './save-state.ts';
import { mountShm, unmountShm } from './shm.ts';
import { startNetwork } from './start-network.ts';
import { storageMetadata } from './storage-metadata.ts';
import { attempt } from './undo.ts';

/**
 * Runs a pod and returns its id. The name is the key: a pod that has it already is the answer, a creation that is under
 * way is joined, and goes on when the caller is gone.
 */
export async function runPod(context: Context, call: Call, config: PodConfig, handler: string): Promise<string> {
  checkMetadata(config.metadata);
  const name = podName(config.metadata);
  const known = context.index.findByName(name);
  if (known !== undefined && !known.isHidden) return known.pod.id;
  const pod = await context.creations.joinOrStart(name, call, {
    call: () => call.asOperation(name),
    // A result that was being handed over at this very moment.
    run: async (operation) =>
      context.index.findByName(name)?.pod ?? createPod(context, operation, { config, handler, name }),
  });
  if (context.index.isHidden(pod.id)) {
    context.index.publish(pod);
    context.onEvent({ type: 'started', pod, timeNs: context.clock.nowNs() });
  }
  return pod.id;
}

interface CreateRequest {
  readonly config: PodConfig;
  readonly handler: string;
  readonly name: string;
}

/** Makes a pod. Each step is undone when a later one fails. */
async function createPod(context: Context, call: Call, request: CreateRequest): Promise<Pod> {
  const { metadata } = request.config;
  call.log.info(() => `Running pod sandbox: ${metadata.namespace}/${metadata.name}/POD`);
  const id = newId();
  context.creating.add(id);
  try {
    await using undo = new AsyncDisposableStack();
    const pod = await build(context, call, { ...request, id, undo });
    undo.move();
    context.pending.remove(id);
    context.index.add(pod);
    call.log.info(() => `Ran pod sandbox ${id} with infra container: ${metadata.namespace}/${metadata.name}/POD`);
    return pod;
  } finally {
    context.creating.delete(id);
  }
}

interface BuildRequest extends CreateRequest {
  readonly id: string;
  readonly undo: AsyncDisposableStack;
}

async function build(context: Context, call: Call, request: BuildRequest): Promise<Pod> {
  const { undo } = request;
  const { plan, handler } = await decide(context, call, request);
  const image = await findPauseImage(context, call, plan);
  pending(context, plan, undo);

  call.stage('sandbox namespace creation');
  await pinPodNamespaces({ ...plan, plan: plan.namespacePlan });
  undo.defer(attempt(context, 'unpin namespaces', async () => unpinPodNamespaces(plan.namespacePlan.paths.values())));

  // The plugins run as processes of their own: all the rest is done while they do.
  const networking = plan.hostNetwork ? undefined : startNetwork(context, plan, undo);
  await networking?.started;
  const places = await makeStorage(context, call, { plan, image, undo });
  const spec = await buildSpec(context, call, { plan, handler, image, places });
  const infraImage = context.config().image.pauseImage;
  context.index.announce({ ...podOf({ plan, places, infra: undefined, infraImage, ips: [] }), spec });
  undo.defer(() => context.index.withdraw(plan.id));
  await makeFiles(context, call, { plan, places, undo });
  const infra = plan.infraKept ? await makeInfra(context, call, { plan, handler, places, spec, undo }) : undefined;

  call.stage('sandbox network creation');
  const network = await networking?.answered;
  if (network !== undefined) spec.annotations = { ...spec.annotations, [annotationKey.cniResult]: network.resultJson };
  call.stage('sandbox container runtime creation');
  const pod = podOf({
    plan,
    places,
    infra: infra?.init,
    infraImage,
    ips: network?.ips ?? [],
  });
  await Promise.all([
    networking?.finished,
    writeSpec(pod, spec),
    saveState(pod, { monitor: infra?.monitor, spec, startedAtNs: infra?.startedAtNs ?? plan.createdAtNs }),
  ]);
  return pod;
}

/** Waits for the network, then decides everything that can be decided without doing anything. */
async function decide(
  context: Context,
  call: Call,
  request: BuildRequest,
): Promise<{ plan: PodPlan; handler: HandlerOf }> {
  call.stage('sandbox creating');
  const { config, id, name } = request;
  const isHostNetwork = config.securityContext?.namespaceOptions?.network === 2;
  if (!isHostNetwork) {
    const problem = context.network.status();
    // As with CRI-O, the pod waits without limit: until then, only this says what for.
    if (problem !== undefined) call.log.warn(`Network of pod ${name} is not ready: ${problem}`);
    call.stage('sandbox network ready', problem);
    await context.network.waitReady(context.shutdown);
  }
  const handler = handlerFor(context, request.handler);
  const plan = planPod({
    id,
    name,
    uuid: randomUUID(),
    createdAtNs: context.clock.nowNs(),
    podConfig: config,
    handler,
    config: context.config(),
    hostHostname: hostHostname(),
  });
  for (const warning of plan.warnings) call.log.warn(warning);
  return { plan, handler };
}

async function findPauseImage(context: Context, call: Call, plan: PodPlan): Promise<Image> {
  call.stage('sandbox storage creation');
  const reference = context.config().image.pauseImage;
  const known = await context.images.find(reference);
  if (known !== undefined) return known;
  try {
    return await context.images.pull(call, {
      reference,
      credentials: undefined,
      // It is the node's image: what a namespace may run does not decide about it.
      namespace: '',
      cgroupParent: plan.cgroupParent,
    });
  } catch (error) {
    throw wrap(`failed to create pod sandbox storage: pull pause image "${reference}"`, error);
  }
}

/** From here on a daemon that is killed leaves a record of what it made. */
function pending(context: Context, plan: PodPlan, undo: AsyncDisposableStack): void {
  context.pending.write({
    id: plan.id,
    namespacePaths: [...plan.namespacePlan.paths.values()],
    cgroup: plan.infraCgroup ?? '',
    shmPath: plan.hostIpc ? '' : `${context.store.containers.runDirectory(plan.id)}/shm`,
  });
  undo.defer(async () => context.pending.remove(plan.id));
}

async function makeStorage(
  context: Context,
  call: Call,
  { plan, image, undo }: { plan: PodPlan; image: Image; undo: AsyncDisposableStack },
): Promise<PodPlaces> {
  call.stage('sandbox storage creation');
  const { containers } = context.store;
  const { pauseImage } = context.config().image;
  await containers.create({
    id: plan.id,
    names: [plan.infraName, plan.name],
    layerName: `${plan.infraName}-layer`,
    imageId: image.id,
    metadata: storageMetadata({ plan, imageName: pauseImage, imageId: image.id, mountLabel: '' }),
    mountLabel: '',
    uidMap: plan.userNamespace.uidMap,
    gidMap: plan.userNamespace.gidMap,
  });
  undo.defer(attempt(context, 'delete storage', () => containers.delete(plan.id)));
  call.stage('sandbox storage start');
  const rootfs = await containers.mount(plan.id);
  const directory = containers.directory(plan.id);
  const runDirectory = containers.runDirectory(plan.id);
  return {
    rootfs,
    directory,
    runDirectory,
    shmPath: plan.hostIpc ? '/dev/shm' : `${runDirectory}/shm`,
    resolvPath: `${runDirectory}/resolv.conf`,
    hostnamePath: `${runDirectory}/hostname`,
    containerEnvPath: `${plan.infraKept ? directory : runDirectory}/.containerenv`,
  };
}

interface FileParts {
  readonly plan: PodPlan;
  readonly places: PodPlaces;
  readonly undo: AsyncDisposableStack;
}

async function makeFiles(context: Context, call: Call, { plan, places, undo }: FileParts): Promise<void> {
  call.stage('sandbox shm creation');
  const { owner } = plan;
  if (!plan.hostIpc) {
    mountShm(places.shmPath, { sizeBytes: plan.shmSizeBytes, owner });
    undo.defer(attempt(context, 'unmount shm', () => unmountShm(places.shmPath)));
  }
  writeOwned(places.resolvPath, formatResolvConf(plan.config.dns) ?? readHostResolvConf(), owner);
  writeOwned(places.hostnamePath, `${plan.hostname}\n`, owner);
  writeOwned(places.containerEnvPath, '', { uid: 0, gid: 0 });
  const cgroup = createInfraCgroup(context, plan);
  undo.defer(
    attempt(context, 'remove cgroup', async () => {
      if (plan.infraCgroup !== undefined) await context.cgroups.removeCgroup(plan.infraCgroup);
    }),
  );
  await Promise.all([cgroup, prepareLog(plan.logDirectory, plan.logPath)]);
}

interface InfraParts extends FileParts {
  readonly handler: HandlerOf;
  readonly spec: Spec;
}

/** Needs config.json in the bundle; the network's result is written into it afterwards. */
async function makeInfra(context: Context, call: Call, parts: InfraParts): Promise<StartedInfra> {
  call.stage('sandbox container runtime creation');
  const { plan, places, handler, spec, undo } = parts;
  writeOwned(`${places.runDirectory}/config.json`, encodeSpec(spec), { uid: 0, gid: 0 });
  const { containers } = context.store;
  for (let attempt = 1; ; attempt++) {
    await using tried = new AsyncDisposableStack();
    try {
      const infra = await startInfra(context, call, { plan, places, handler, undo: tried });
      undo.use(tried.move());
      return infra;
    } catch (error) {
      // Another program on the same storage may have hidden the root file system, or detached it, meanwhile.
      if (attempt === maxAttempts || !(await containers.rootWasLost(plan.id))) throw error;
      await containers.mount(plan.id);
    }
  }
}

/** podman needs a tenth of a second for each of its commands. */
const maxAttempts = 10;

/** The same in both folders; the one in /run at once. */
async function writeSpec(pod: Pod, spec: Spec): Promise<void> {
  const text = encodeSpec(spec);
  const onDisk = replaceFile(`${pod.directory}/config.json`, text);
  replaceFileNow(`${pod.runDirectory}/config.json`, text);
  await onDisk;
}
