import { closeSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { CrioError } from '../base/errors.ts';
import type { Config, RuntimeHandlerConfig } from '../config/config.ts';
import { defaultMinMemory, parseMemory } from '../config/memory.ts';
import type { PreparedContainer, PrepareContainer, PrepareRequest } from '../container/prepare.ts';
import { parseSignal, signalName } from '../container/stop-signal.ts';
import { NamespaceMode } from '../pod/config.ts';
import { controlAnnotation, filterAnnotations } from '../runtime/spec/annotation-filter.ts';
import { chooseWorkingDirectory } from '../runtime/spec/command.ts';
import { buildContainerSpec, environmentOf } from '../runtime/spec/container-spec.ts';
import { variable } from '../runtime/spec/environment.ts';
import type {
  ContainerSpecInput,
  HostFacts,
  PreparedMounts,
  ResolvedDevices,
  ResolvedMounts,
  SpecSettings,
} from '../runtime/spec/input.ts';
import { specSettings } from '../runtime/spec/settings.ts';
import { O_DIRECTORY, O_PATH } from '../sys/arch.ts';
import { readMountInfo } from '../sys/mount.ts';
import { allowTraversal } from './allow-traversal.ts';
import { DefaultApparmorProfile, defaultProfileName } from './apparmor-profile.ts';
import { chooseApparmor } from './apparmor.ts';
import { hostId } from './host-id.ts';
import { type ImageVolumesRequest, mountImageVolumes } from './image-volumes.ts';
import { choosePidNamespace } from './pid-namespace.ts';
import { prepareRootfs, prepareVolumes } from './prepare-rootfs.ts';
import { resolveDevices } from './resolve-devices.ts';
import { resolveMounts } from './resolve-mounts.ts';
import { requireRunnable, requireUserFiles } from './runtime-traps.ts';
import type { SeccompCache } from './seccomp-cache.ts';
import { type FetchProfile, seccompFromArtifact } from './seccomp-artifact.ts';
import { chooseSeccomp } from './seccomp-profiles.ts';
import { makeSecrets } from './secrets.ts';
import { setTimezone } from './timezone.ts';
import { makeUserFiles } from './user-files.ts';
import { resolveUser, type UserLookup } from './users.ts';

export interface PrepareDeps {
  /** Read at each call: a reload replaces it. */
  readonly config: () => Config;
  readonly host: HostFacts;
  readonly storageRoot: string;
  /** For mounts that name an image. */
  readonly mountImage: ImageVolumesRequest['mountImage'];
  /** For profiles that annotations name; without it none is loaded. */
  readonly fetchSeccompProfile?: FetchProfile;
  /** Told of every spec; `created` must be called by the runtime. */
  readonly seccompCache?: Pick<SeccompCache, 'annotationFor'>;
}

/** The function that makes and reads all a container needs and computes its spec. */
export function createPrepare(deps: PrepareDeps): PrepareContainer {
  const parts = { ...deps, apparmor: new DefaultApparmorProfile() };
  return (request) => prepareContainer(parts, request);
}

type Parts = PrepareDeps & { readonly apparmor: DefaultApparmorProfile };

/** Everything that is decided before the root file system is looked at. */
interface Plan {
  readonly config: Config;
  readonly handler: RuntimeHandlerConfig;
  readonly settings: SpecSettings;
  readonly annotations: ReadonlyMap<string, string>;
  /** Host ids of root in the container's user namespace. */
  readonly rootOwner: { readonly uid: number; readonly gid: number };
  readonly extraEnv: readonly string[];
}

async function prepareContainer(deps: Parts, request: PrepareRequest): Promise<PreparedContainer> {
  const { call } = request;
  const plan = planContainer(deps, request);
  call.stage('container volume configuration');
  const mounts = await prepareMounts(deps, request, plan);
  call.stage('container device creation');
  const devices = await prepareDevices(request, plan);
  call.stage('container storage start');
  const rootfs = await request.mountRootfs();
  call.stage('container spec configuration');
  const inRoot = await prepareInRoot(request, plan, rootfs, mounts);
  const stopSignal = stopSignalOf(request);
  const spec = buildContainerSpec({
    ...(await securityOf(deps, request, plan)),
    ociVersion: request.runtime.features.ociVersion,
    settings: plan.settings,
    host: deps.host,
    id: request.id,
    name: request.name,
    pod: request.pod,
    config: request.config,
    annotations: plan.annotations,
    image: {
      id: request.image.id,
      name: request.imageName,
      repoDigests: request.image.repoDigests,
      config: request.image.config,
    },
    createdAtNs: request.createdAtNs,
    rootfs,
    logPath: request.logPath,
    user: inRoot.user,
    mounts,
    prepared: inRoot.prepared,
    devices,
    platformRuntimePath: '',
    stopSignal: stopSignal.name,
    hooks: undefined,
    extraEnv: plan.extraEnv,
  });
  requireRunnable(spec.process ?? {});
  const runtimeAnnotations = deps.seccompCache?.annotationFor(request.id, spec, {
    version: request.runtime.features.version,
    path: plan.handler.runtimePath,
  });
  return {
    spec,
    volumes: mounts.volumes,
    annotations: plan.annotations,
    stopSignal: stopSignal.number,
    ...(runtimeAnnotations === undefined ? {} : { runtimeAnnotations }),
  };
}

function planContainer(deps: PrepareDeps, { runtime, config: request, pod }: PrepareRequest): Plan {
  const config = deps.config();
  const handler = config.runtime.runtimes.get(runtime.handler);
  if (handler === undefined)
    throw new CrioError('invalid', `find runtime handler "${runtime.handler}": not in the configuration`);
  if (request.cdiDevices.length > 0) {
    throw new CrioError(
      'unimplemented',
      `CDI device injection failed: unresolvable CDI devices ${request.cdiDevices.join(', ')}`,
    );
  }
  return {
    config,
    handler,
    settings: specSettings({
      config,
      handler,
      containerMinMemory: parseMemory(handler.containerMinMemory) ?? defaultMinMemory,
    }),
    annotations: filterAnnotations(request.annotations, allowedAnnotations(config, handler, pod.annotations)),
    rootOwner: { uid: hostId(0, pod.uidMap), gid: hostId(0, pod.gidMap) },
    extraEnv: [],
  };
}

/** What the handler allows, and the workloads the pod has chosen by their activation annotation. */
export function allowedAnnotations(
  config: Config,
  handler: RuntimeHandlerConfig,
  podAnnotations: ReadonlyMap<string, string>,
): string[] {
  const chosen = [...config.runtime.workloads.values()].filter(({ activationAnnotation }) =>
    podAnnotations.has(activationAnnotation),
  );
  return [...handler.allowedAnnotations, ...chosen.flatMap((workload) => workload.allowedAnnotations)];
}

async function prepareMounts(deps: PrepareDeps, request: PrepareRequest, { config }: Plan): Promise<ResolvedMounts> {
  const { runtime } = config;
  const { features } = request.runtime;
  const binds = await resolveMounts({
    mounts: request.config.mounts,
    prefix: runtime.bindMountPrefix,
    rejectAbsent: runtime.absentMountSourcesToReject,
    storageRoot: deps.storageRoot,
    mountInfo: request.config.mounts.length === 0 ? [] : readMountInfo(),
    runtime: { recursiveReadOnlyMounts: features.recursiveReadOnlyMounts, idmapMounts: features.idmapMounts },
  });
  const images = await mountImageVolumes({
    mounts: request.config.mounts.filter(({ image }) => image !== undefined),
    bundle: request.bundle,
    emptyDirectory: `${dirname(runtime.containerExitsDir)}/image-volumes`,
    mountImage: deps.mountImage,
    log: request.call.log,
    undo: request.undo,
  });
  const volumes = binds.volumes.flatMap((volume) =>
    volume.image === undefined ? [volume] : (images.volumes.get(volume.containerPath) ?? [volume]),
  );
  return { images: images.mounts, binds: binds.binds, rootfsPropagation: binds.rootfsPropagation, volumes };
}

function prepareDevices(
  { config: request, pod }: PrepareRequest,
  { config, annotations, handler }: Plan,
): Promise<ResolvedDevices> {
  const context = request.securityContext;
  const takesOwner = config.runtime.deviceOwnershipFromSecurityContext;
  return resolveDevices({
    devices: request.devices,
    additional: config.runtime.additionalDevices,
    annotation: controlAnnotation(new Map([...pod.annotations, ...annotations]), 'devices.crio.io'),
    allowed: config.runtime.allowedDevices,
    privileged: context?.privileged === true,
    privilegedWithoutHostDevices: handler.privilegedWithoutHostDevices,
    owner: takesOwner ? { uid: context?.runAsUser ?? 0, gid: context?.runAsGroup ?? 0 } : undefined,
  });
}

/** Opens the root file system once; everything inside it is reached from this descriptor. */
async function prepareInRoot(
  request: PrepareRequest,
  plan: Plan,
  rootfs: string,
  mounts: ResolvedMounts,
): Promise<{ user: UserLookup; prepared: PreparedMounts }> {
  const { pod, bundle, config, image } = request;
  if (pod.uidMap.length > 0) await Promise.all([bundle, rootfs].map((path) => allowTraversal(path, plan.rootOwner)));
  const rootFd = openSync(rootfs, O_PATH | O_DIRECTORY);
  try {
    requireUserFiles(rootFd);
    const user = await resolveUser({ rootFd, context: config.securityContext, imageUser: image.config.user });
    const home = variable(
      environmentOf({ config, image, pod, settings: plan.settings, extraEnv: plan.extraEnv }),
      'HOME',
    );
    const users = await makeUserFiles({ rootFd, bundle, user, home, uidMap: pod.uidMap });
    prepareRootfs({
      rootFd,
      cwd: chooseWorkingDirectory(config.workingDir, image.config.workingDir),
      rootOwner: plan.rootOwner,
    });
    const inRoot = {
      rootFd,
      bundle,
      rootOwner: plan.rootOwner,
      mounted: new Set(mounts.volumes.map(({ containerPath }) => containerPath)),
    };
    const { runtime } = plan.config;
    const owner = { uid: hostId(user.uid, pod.uidMap), gid: hostId(user.gid, pod.gidMap) };
    const mode = plan.config.image.imageVolumes;
    return {
      user,
      prepared: {
        users,
        imageVolumes: await prepareVolumes({ ...inRoot, volumes: image.config.volumes, mode, owner }),
        secrets: await makeSecrets({ ...inRoot, mountsFile: runtime.defaultMountsFile }),
        localtime: await setTimezone({ ...inRoot, timezone: runtime.timezone }),
      },
    };
  } finally {
    closeSync(rootFd);
  }
}

async function securityOf(
  { host, apparmor, fetchSeccompProfile }: Parts,
  { call, config: request, pod, image, findTarget, undo }: PrepareRequest,
  { config, handler }: Plan,
): Promise<
  Pick<ContainerSpecInput, 'seccomp' | 'apparmorProfile' | 'processLabel' | 'mountLabel' | 'pidNamespacePath'>
> {
  const context = request.securityContext;
  const privileged = context?.privileged === true;
  const { runtime } = config;
  const runtimeDefault = { type: 'runtime-default', localhostRef: '' } as const;
  const apparmorProfile = chooseApparmor({
    profile: context?.apparmor,
    deprecated: context?.apparmorProfile ?? '',
    privileged,
    isEnabled: host.apparmor,
    defaultProfile: runtime.apparmorProfile,
  });
  const needsLoading = apparmorProfile === defaultProfileName;
  return {
    seccomp: await chooseSeccomp({
      profile: context === undefined ? runtimeDefault : context.seccomp,
      privileged,
      isInfra: false,
      isEnabled: host.seccomp,
      runtimeDefaultPath: handler.seccompProfile === '' ? runtime.seccompProfile : handler.seccompProfile,
      privilegedPath: runtime.privilegedSeccompProfile,
      ...(fetchSeccompProfile === undefined
        ? {}
        : {
            fromArtifact: () =>
              seccompFromArtifact({
                call,
                container: request.metadata.name,
                podAnnotations: pod.annotations,
                imageAnnotations: image.annotations,
                allowed: allowedAnnotations(config, handler, pod.annotations),
                namespace: pod.metadata.namespace,
                fetch: fetchSeccompProfile,
              }),
          }),
    }),
    apparmorProfile: needsLoading && !(await apparmor.ensureLoaded(call.log)) ? undefined : apparmorProfile,
    processLabel: pod.processLabel,
    mountLabel: pod.mountLabel,
    pidNamespacePath: await choosePidNamespace({
      pod,
      mode: context?.namespaceOptions?.pid ?? NamespaceMode.pod,
      targetId: context?.namespaceOptions?.targetId ?? '',
      findTarget,
      namespacesDir: runtime.namespacesDir,
      undo,
    }),
  };
}

function stopSignalOf({ config, image }: PrepareRequest): { name: string; number: number } {
  if (config.stopSignal !== 0) return { name: signalName(config.stopSignal), number: config.stopSignal };
  return { name: image.config.stopSignal, number: parseSignal(image.config.stopSignal) ?? 0 };
}
