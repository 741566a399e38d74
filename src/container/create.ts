import { unlink, writeFile } from 'node:fs/promises';
import type { Call } from '../base/call.ts';
import { CrioError, hasCode } from '../base/errors.ts';
import { newId } from '../base/ids.ts';
import type { Image } from '../image/images.ts';
import type { PodConfig } from '../pod/config.ts';
import type { Pod } from '../pod/pod.ts';
import type { CreatedProcess } from '../runtime/runtime.ts';
import { encodeSpec } from '../runtime/spec/spec-json.ts';
import type { ContainerConfig, ContainerMount } from './config.ts';
import type { Container } from './container.ts';
import { describe, runtimeFor, type Context } from './context.ts';
import { discardContainer } from './discard.ts';
import { watchInit } from './exit.ts';
import { checkLabels } from './labels.ts';
import { checkLogPath, containerLogPath } from './log-path.ts';
import { containerName, storageMetadata } from './name.ts';
import type { PreparedContainer } from './prepare.ts';
import { removeLeftoverFiles } from './remove.ts';
import { resourcesOf } from './resources.ts';
import { shareSeccomp } from './share-seccomp.ts';
import { saveState } from './state.ts';
import { newEntry, noLongerWaitedFor, type Entry } from './store.ts';

export interface CreateRequest {
  /** Id or unique prefix. */
  readonly podId: string;
  readonly config: ContainerConfig;
  /** The pod config that came with the request. */
  readonly podConfig: PodConfig;
}

const defaultStopSignal = 15;

/**
 * Creates a container; it waits for `start`. A request for a name that is there already gets that container, one for a
 * name that is just being created joins the creation: it goes on when its caller gives up.
 */
export async function createContainer(context: Context, call: Call, request: CreateRequest): Promise<Container> {
  const pod = requirePod(context, request.podId);
  checkRequest(request);
  const name = containerName(request.config.metadata, request.podConfig.metadata);
  // One that is just being removed still has the name; its removal may also fail.
  await context.index.getByName(name)?.removal?.catch(() => {});
  const existing = context.index.getByName(name);
  if (existing?.isVisible === true) return existing.container;
  const entry = await context.creations.joinOrStart(name, call, {
    call: () => context.ownCall(call.name),
    run: (ownCall) => createEntry(context, ownCall, { ...request, pod, name }),
  });
  if (entry.removal !== undefined) throw new CrioError('unavailable', `${name}: is being removed again, try once more`);
  publish(context, entry);
  return entry.container;
}

/** The text is CRI-O's. */
function requirePod(context: Context, podId: string): Pod {
  if (podId === '') throw new CrioError('unknown', 'PodSandboxId should not be empty');
  const pod = context.findPod(podId);
  if (pod === undefined) {
    const cause = `pod sandbox with ID starting with ${podId} not found: ID does not exist`;
    throw new CrioError('unknown', `specified sandbox not found: ${podId}: ${cause}`);
  }
  requireReady(pod);
  return pod;
}

function requireReady(pod: Pod): void {
  if (!pod.isReady || pod.isStopping)
    throw new CrioError('unknown', `CreateContainer failed as the sandbox was stopped: ${pod.id}`);
}

function checkRequest({ config, podConfig }: CreateRequest): void {
  checkLabels(config.labels);
  if (config.securityContext?.privileged === true && podConfig.securityContext?.privileged !== true) {
    throw new CrioError('unknown', 'no privileged container allowed in sandbox');
  }
}

function publish(context: Context, entry: Entry): void {
  if (entry.isVisible) return;
  context.index.show(entry);
  const { container } = entry;
  context.log.info(() => `Created container ${container.id}: ${describe(container)}`);
  context.onEvent({ type: 'created', container, timeNs: context.clock.nowNs() });
}

interface Creation extends CreateRequest {
  readonly pod: Pod;
  readonly name: string;
}

async function createEntry(context: Context, call: Call, creation: Creation): Promise<Entry> {
  call.stage('container creating');
  const { config, podConfig, pod } = creation;
  const { metadata } = podConfig;
  context.log.info(() => `Creating container: ${metadata.namespace}/${metadata.name}/${config.metadata.name}`);
  const image = await requireImage(context, config.image);
  await verifyImage(context, creation, image);
  const mounts = await verifyMounts(context, creation);
  const draft = draftOf(context, { ...creation, config: { ...config, mounts } }, image);
  await using undo = new AsyncDisposableStack();
  await createStorage(context, call, draft, undo);
  const { prepared, created } = await makeProcess(context, call, draft, undo);
  const entry = newEntry(toContainer(draft, prepared, created));
  context.index.add(entry);
  undo.defer(() => {
    entry.gone.abort(noLongerWaitedFor);
    context.index.remove(entry);
  });
  watchInit(context, entry);
  await saveState(context, entry);
  requireReady(pod);
  undo.move();
  return entry;
}

/** All that is decided before anything is made. */
interface Draft extends Creation {
  readonly id: string;
  readonly image: Image;
  /** Some name of the image, `` when it has none. */
  readonly imageName: string;
  readonly createdAtNs: bigint;
  readonly directory: string;
  readonly bundle: string;
  readonly logDirectory: string;
  readonly logPath: string;
}

function draftOf(context: Context, creation: Creation, image: Image): Draft {
  const { config, podConfig, pod } = creation;
  const id = newId();
  const logDirectory = podConfig.logDirectory === '' ? pod.logDirectory : podConfig.logDirectory;
  const { containers } = context.store;
  return {
    ...creation,
    id,
    image,
    imageName: image.repoTags[0] ?? image.repoDigests[0] ?? '',
    createdAtNs: context.clock.nowNs(),
    directory: containers.directory(id),
    bundle: containers.runDirectory(id),
    logDirectory,
    logPath: containerLogPath({ logDirectory, logPath: config.logPath, id }),
  };
}

async function requireImage(context: Context, reference: string): Promise<Image> {
  const image = await context.images.find(reference);
  if (image === undefined) {
    const damage = await context.images.damageOf?.(reference);
    const cause = damage === undefined ? 'not present locally' : `it is damaged, pull it again: ${damage}`;
    throw new CrioError('unknown', `find image "${reference}": ${cause}`);
  }
  if (image.artifact === undefined) return image;
  const type = JSON.stringify(image.artifact.artifactType);
  throw new CrioError('invalid', `image "${reference}" is an OCI artifact of type ${type}: it can be mounted, not run`);
}

/** What was pulled for one namespace, or by another tool, may be refused to this one. */
async function verifyImage(context: Context, { config, pod }: Creation, image: Image): Promise<void> {
  const { namespace } = pod.metadata;
  await context.verifyImage({ imageId: image.id, userSpecifiedImage: config.userSpecifiedImage, namespace });
}

/** The mounts, those of images with what their names are now: only that has been verified. */
async function verifyMounts(context: Context, { config, pod }: Creation): Promise<ContainerMount[]> {
  const { namespace } = pod.metadata;
  const mounts: ContainerMount[] = [];
  for (const mount of config.mounts) {
    const { image: name, userSpecifiedImage = '' } = mount;
    // An artifact wins over an image of the same name. One that is not there is an error of the mount.
    const mounted =
      name === undefined ? undefined : ((await context.images.findArtifact(name)) ?? (await context.images.find(name)));
    mounts.push(mounted === undefined ? mount : { ...mount, imageId: mounted.id });
    if (mounted !== undefined) await context.verifyImage({ imageId: mounted.id, userSpecifiedImage, namespace });
  }
  return mounts;
}

async function createStorage(context: Context, call: Call, draft: Draft, undo: AsyncDisposableStack): Promise<void> {
  call.stage('container storage creation');
  const { id, name, pod, image, config, imageName, createdAtNs } = draft;
  const { containers } = context.store;
  await removeStale(context, call, draft);
  deferLogged(context, undo, `delete storage of container ${id}`, () => containers.delete(id));
  await containers.create({
    id,
    names: [name],
    layerName: `${name}-layer`,
    imageId: image.id,
    metadata: storageMetadata({
      podName: pod.name,
      podId: pod.id,
      imageName: imageName === '' ? config.image : imageName,
      imageId: image.id,
      name,
      metadata: config.metadata,
      mountLabel: pod.mountLabel,
      createdAtNs,
    }),
    mountLabel: pod.mountLabel,
    uidMap: pod.uidMap,
    gidMap: pod.gidMap,
  });
}

/**
 * A container of this name that is on disk but not known here (its record could not be read at the start of the daemon)
 * would keep the name for good: who asks for the name anew does not know of it either.
 */
async function removeStale(context: Context, call: Call, { name, pod }: Draft): Promise<void> {
  const stale = await context.store.containers.find(name);
  if (stale === undefined || !stale.names.includes(name) || context.index.get(stale.id) !== undefined) return;
  context.log.warn(`Container ${stale.id} has the name ${name} and cannot be read: removed for a new one`);
  await discardContainer(context, call, stale.id, pod.runtimeHandler);
}

interface Made {
  readonly prepared: PreparedContainer;
  readonly created: CreatedProcess;
}

/** podman needs a tenth of a second for each of its commands. */
const maxAttempts = 10;

/**
 * Another program on the same storage may hide the root file system for a moment, or detach it: then what was read from it
 * and what failed in it means nothing, and is done anew.
 */
async function makeProcess(context: Context, call: Call, draft: Draft, undo: AsyncDisposableStack): Promise<Made> {
  for (let attempt = 1; ; attempt++) {
    await using tried = new AsyncDisposableStack();
    const wasLost = () => context.store.containers.rootWasLost(draft.id);
    try {
      const prepared = await prepare(context, call, draft, tried);
      // Side by side, as nearly always nothing was lost.
      const [isLost] = await Promise.all([attempt < maxAttempts && wasLost(), writeSpec(draft, prepared)]);
      if (isLost) continue;
      shareSeccomp(prepared.spec);
      context.index.announce(toContainer(draft, prepared, undefined));
      tried.defer(() => context.index.withdraw(draft.id));
      const created = await createProcess(context, call, draft, tried);
      undo.use(tried.move());
      return { prepared, created };
    } catch (error) {
      if (attempt >= maxAttempts || !(await wasLost())) throw error;
      context.log.warn(`Root file system of container ${draft.id} was hidden by another program: once more`, error);
    }
  }
}

function prepare(context: Context, call: Call, draft: Draft, undo: AsyncDisposableStack): Promise<PreparedContainer> {
  const { id, pod } = draft;
  let rootfs: Promise<string> | undefined;
  return context.prepare({
    ...draft,
    call,
    runtime: runtimeFor(context, pod.runtimeHandler),
    mountRootfs: () => (rootfs ??= context.store.containers.mount(id)),
    findTarget: (targetId) => context.index.find(targetId)?.container.state.init,
    undo,
  });
}

/** In the container's directory for a restart, in the bundle for the runtime. */
async function writeSpec({ directory, bundle }: Draft, { spec, runtimeAnnotations }: PreparedContainer): Promise<void> {
  const text = encodeSpec(spec);
  const annotations = { ...spec.annotations, ...runtimeAnnotations };
  const forRuntime = runtimeAnnotations === undefined ? text : encodeSpec({ ...spec, annotations });
  await Promise.all([
    writeFile(`${directory}/config.json`, text, { mode: 0o644 }),
    writeFile(`${bundle}/config.json`, forRuntime, { mode: 0o644 }),
  ]);
}

async function createProcess(
  context: Context,
  call: Call,
  draft: Draft,
  undo: AsyncDisposableStack,
): Promise<CreatedProcess> {
  call.stage('container runtime creation');
  const { id, name, bundle, directory, logDirectory, logPath, config, pod } = draft;
  const runtime = runtimeFor(context, pod.runtimeHandler);
  await checkLogPath({ logDirectory, path: logPath });
  deferLogged(context, undo, `remove log of container ${id}`, () => removeFile(logPath));
  const created = await runtime.create(call, {
    id,
    name,
    bundle,
    persistDir: directory,
    logPath,
    terminal: config.tty,
    stdin: config.stdin,
    stdinOnce: config.stdinOnce,
    cgroupParent: pod.cgroupParent,
    timeoutMs: createTimeoutMs(context, runtime.handler),
  });
  deferLogged(context, undo, `delete container ${id} from the runtime`, async () => {
    // The monitor ends first: it would write an exit file for a container that nobody knows.
    if (created.monitor !== undefined) context.processes.signal(created.monitor, sigkill);
    await runtime.delete(call, id);
    await removeLeftoverFiles(context, id);
  });
  return created;
}

const sigkill = 9;
const defaultTimeoutSeconds = 240;

function createTimeoutMs({ config }: Context, handler: string): number {
  const seconds = config().runtime.runtimes.get(handler)?.containerCreateTimeout ?? 0;
  return (seconds === 0 ? defaultTimeoutSeconds : seconds) * 1000;
}

function toContainer(draft: Draft, prepared: PreparedContainer, created: CreatedProcess | undefined): Container {
  const { id, name, pod, config, image, imageName, createdAtNs } = draft;
  const { spec, volumes, annotations, stopSignal } = prepared;
  return {
    id,
    name,
    podId: pod.id,
    metadata: config.metadata,
    labels: config.labels,
    annotations,
    runtimeHandler: pod.runtimeHandler,
    requestedImage: config.image,
    imageName,
    imageId: image.id,
    imageRef: image.repoDigests[0] ?? image.id,
    mounts: volumes,
    logPath: draft.logPath,
    terminal: config.tty,
    stdin: config.stdin,
    stdinOnce: config.stdinOnce,
    stopSignal: stopSignal === 0 ? defaultStopSignal : stopSignal,
    stopSignalRequested: stopSignal,
    privileged: config.securityContext?.privileged === true,
    createdAtNs,
    directory: draft.directory,
    bundle: draft.bundle,
    mountPoint: spec.root?.path ?? '',
    spec,
    resources: resourcesOf(spec),
    state: {
      status: 'created',
      init: created?.init,
      monitor: created?.monitor,
      startedAtNs: 0n,
      finishedAtNs: 0n,
      exitCode: undefined,
      oomKilled: false,
      seccompKilled: false,
      error: '',
    },
    version: 1,
  };
}

/** An undo that fails is logged: the error that began it is what the caller must see. */
function deferLogged(context: Context, undo: AsyncDisposableStack, what: string, work: () => Promise<void>): void {
  undo.defer(async () => {
    try {
      await work();
    } catch (error) {
      context.log.error(what, error);
    }
  });
}

async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}
