import { closeSync, constants, openSync } from 'node:fs';
import { CrioError } from '../base/errors.ts';
import type { Config, RuntimeHandlerConfig } from '../config/config.ts';
import type { IdMapping } from '../pod/config.ts';
import type { Pod } from '../pod/pod.ts';
import { controlAnnotation, filterAnnotations } from '../runtime/spec/annotation-filter.ts';
import { chooseWorkingDirectory } from '../runtime/spec/command.ts';
import { buildContainerSpec } from '../runtime/spec/container-spec.ts';
import { variable } from '../runtime/spec/environment.ts';
import type { ContainerSpecInput, HostFacts, ResolvedDevices, ResolvedMounts, SeccompChoice, SpecSettings } from '../runtime/spec/input.ts';
import { chooseApparmor } from '../security/apparmor.ts';
import { prepareRootfs, prepareVolumes } from '../security/prepare-rootfs.ts';
import { resolveDevices } from '../security/resolve-devices.ts';
import { resolveMounts } from '../security/resolve-mounts.ts';
import { chooseSeccomp } from '../security/seccomp-profiles.ts';
import { makeUserFiles } from '../security/user-files.ts';
import { resolveUser, type UserLookup } from '../security/users.ts';
import { readMountInfo } from '../sys/mount.ts';
import type { ImageVolumes } from './image-volumes.ts';
import { choosePidNamespace } from './pid-namespace.ts';
import type { PrepareContainer, PreparedContainer, PrepareRequest } from './prepare.ts';
import { parseSignal, signalName } from './stop-signal.ts';
import { openToUser } from './traversal.ts';

export interface PrepareDeps {
  /** Read at each create: a reload replaces it. */
  readonly config: () => Config;
  readonly host: HostFacts;
  readonly specSettings: (handler: RuntimeHandlerConfig) => SpecSettings;
  /** Mounts of images; without it a request for one fails. */
  readonly imageVolumes?: ImageVolumes;
  /** Graph root of the store. */
  readonly storageRoot: string;
}

/** The steps between a request and its spec, on this host. */
export function createPrepare(deps: PrepareDeps): PrepareContainer {
  return (request) => prepareContainer(deps, request);
}

async function prepareContainer(deps: PrepareDeps, request: PrepareRequest): Promise<PreparedContainer> {
  const { call, pod, config, image } = request;
  refuseUnsupported(request);
  const handler = handlerOf(deps, request);
  const annotations = filterAnnotations(config.annotations, handler.allowedAnnotations);
  call.stage('container volume configuration');
  const mounts = await findMounts(deps, request);
  call.stage('container device creation');
  const devices = await findDevices(deps, request, { handler, annotations });
  call.stage('container storage start');
  const rootfs = await request.mountRootfs();
  call.stage('container spec configuration');
  const { user, prepared } = await prepareFiles(deps, request, { rootfs, mounts });
  const stopSignal = chooseStopSignal(request);
  const input: ContainerSpecInput = {
    ociVersion: request.runtime.features.ociVersion,
    settings: deps.specSettings(handler),
    host: deps.host,
    id: request.id,
    name: request.name,
    pod,
    config,
    annotations,
    image: { id: image.id, name: request.imageName, repoDigests: image.repoDigests, config: image.config },
    createdAtNs: request.createdAtNs,
    rootfs,
    logPath: request.logPath,
    user,
    mounts,
    prepared,
    devices,
    pidNamespacePath: choosePidNamespace(deps.config(), request),
    seccomp: await findSeccomp(deps, request, handler),
    apparmorProfile: findApparmor(deps, request),
    processLabel: pod.processLabel,
    mountLabel: pod.mountLabel,
    platformRuntimePath: '',
    stopSignal,
    hooks: undefined,
    extraEnv: [],
  };
  const spec = buildContainerSpec(input);
  return { spec, volumes: mounts.volumes, annotations, stopSignal: parseSignal(stopSignal) ?? 0 };
}

function refuseUnsupported({ config }: PrepareRequest): void {
  if (config.cdiDevices.length === 0) return;
  throw new CrioError('unimplemented', `CDI device injection failed: ${config.cdiDevices.join(', ')}: not supported yet`);
}

function handlerOf(deps: PrepareDeps, { pod }: PrepareRequest): RuntimeHandlerConfig {
  const { runtimes, defaultRuntime } = deps.config().runtime;
  const name = pod.runtimeHandler === '' ? defaultRuntime : pod.runtimeHandler;
  const handler = runtimes.get(name);
  if (handler === undefined) throw new CrioError('unknown', `failed to find runtime handler ${name} in the configuration`);
  return handler;
}

async function findMounts(deps: PrepareDeps, request: PrepareRequest): Promise<ResolvedMounts> {
  const { runtime } = deps.config();
  const { mounts } = request.config;
  const binds = await resolveMounts({
    mounts,
    prefix: runtime.bindMountPrefix,
    rejectAbsent: runtime.absentMountSourcesToReject,
    storageRoot: deps.storageRoot,
    mountInfo: needsMountInfo(request, deps.storageRoot) ? readMountInfo() : [],
    runtime: request.runtime.features,
  });
  const wantsImages = mounts.some(({ image }) => image !== undefined);
  if (!wantsImages) return { ...binds, images: [] };
  if (deps.imageVolumes === undefined) {
    throw new CrioError('unimplemented', 'ImageVolumeMountFailed: mounts of images are not supported');
  }
  const images = await deps.imageVolumes.mountAll(request);
  return { ...binds, images: images.mounts, volumes: images.inVolumes(binds.volumes) };
}

/** Reading it costs time that grows with the number of mounts on the host; only propagation depends on it. */
function needsMountInfo({ config }: PrepareRequest, storageRoot: string): boolean {
  return config.mounts.some(
    ({ propagation, hostPath }) => propagation !== 0 || hostPath === '/' || `${storageRoot}/`.startsWith(`${hostPath}/`),
  );
}

function findDevices(
  deps: PrepareDeps,
  { config, pod }: PrepareRequest,
  { handler, annotations }: { handler: RuntimeHandlerConfig; annotations: ReadonlyMap<string, string> },
): Promise<ResolvedDevices> {
  const { runtime } = deps.config();
  const context = config.securityContext;
  const all = new Map([...pod.annotations, ...annotations]);
  return resolveDevices({
    devices: config.devices,
    additional: runtime.additionalDevices,
    annotation: controlAnnotation(all, 'devices.crio.io', config.metadata.name),
    allowed: runtime.allowedDevices,
    privileged: context?.privileged === true,
    privilegedWithoutHostDevices: handler.privilegedWithoutHostDevices,
    owner: runtime.deviceOwnershipFromSecurityContext
      ? { uid: context?.runAsUser ?? 0, gid: context?.runAsGroup ?? 0 }
      : undefined,
  });
}

/** Everything that is read or made inside the root file system and the bundle. */
async function prepareFiles(
  deps: PrepareDeps,
  request: PrepareRequest,
  { rootfs, mounts }: { rootfs: string; mounts: ResolvedMounts },
): Promise<{ user: UserLookup; prepared: ContainerSpecInput['prepared'] }> {
  const { config, image, pod, bundle } = request;
  const rootFd = openSync(rootfs, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const user = await resolveUser({ rootFd, context: config.securityContext, imageUser: image.config.user });
    const users = await makeUserFiles({ rootFd, bundle, user, home: homeOf(deps, request), uidMap: pod.uidMap });
    const imageVolumes = await prepareVolumes({
      rootFd,
      bundle,
      volumes: image.config.volumes,
      mounted: new Set([...mounts.binds, ...mounts.images].map(({ destination }) => destination)),
      mode: deps.config().image.imageVolumes,
      owner: { uid: onHost(user.uid, pod.uidMap), gid: onHost(user.gid, pod.gidMap) },
    });
    const cwd = chooseWorkingDirectory(config.workingDir, image.config.workingDir);
    prepareRootfs({ rootFd, cwd, rootOwner: rootOwner(pod) });
    if (pod.uidMap.length > 0) await openToUser([bundle, rootfs], onHost(0, pod.uidMap));
    return { user, prepared: { users, imageVolumes, secrets: [], localtime: [] } };
  } finally {
    closeSync(rootFd);
  }
}

function rootOwner(pod: Pod): { uid: number; gid: number } {
  return { uid: onHost(0, pod.uidMap), gid: onHost(0, pod.gidMap) };
}

/** Id on the host of one in the container; the same without mappings. */
function onHost(id: number, map: readonly IdMapping[]): number {
  const range = map.find(({ containerId, size }) => id >= containerId && id < containerId + size);
  return range === undefined ? id : range.hostId + (id - range.containerId);
}

/** The request's wins over the image's, that over the configured one. */
function homeOf(deps: PrepareDeps, { config, image }: PrepareRequest): string | undefined {
  const requested = config.envs.findLast(({ key }) => key === 'HOME')?.value;
  return requested ?? variable(image.config.env, 'HOME') ?? variable(deps.config().runtime.defaultEnv, 'HOME');
}

/** Without a security context a container gets the runtime's default profiles; with one, no seccomp unless it asks. */
function findSeccomp(deps: PrepareDeps, { config }: PrepareRequest, handler: RuntimeHandlerConfig): Promise<SeccompChoice> {
  const { runtime } = deps.config();
  const context = config.securityContext;
  return chooseSeccomp({
    profile: context === undefined ? { type: 'runtime-default', localhostRef: '' } : context.seccomp,
    privileged: context?.privileged === true,
    isInfra: false,
    isEnabled: deps.host.seccomp,
    runtimeDefaultPath: handler.seccompProfile === '' ? runtime.seccompProfile : handler.seccompProfile,
    privilegedPath: runtime.privilegedSeccompProfile,
  });
}

function findApparmor(deps: PrepareDeps, { config }: PrepareRequest): string | undefined {
  const context = config.securityContext;
  return chooseApparmor({
    profile: context?.apparmor,
    deprecated: context?.apparmorProfile ?? '',
    privileged: context?.privileged === true,
    isEnabled: deps.host.apparmor,
    defaultProfile: deps.config().runtime.apparmorProfile,
  });
}

/** Text for the annotation; the image's own word is kept, also when it names no signal. */
function chooseStopSignal({ config, image }: PrepareRequest): string {
  return config.stopSignal === 0 ? image.config.stopSignal : signalName(config.stopSignal);
}
