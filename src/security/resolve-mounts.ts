import { posix } from 'node:path';
import { CrioError } from '../base/errors.ts';
import { type ContainerMount, MountPropagation } from '../container/config.ts';
import type { Mount } from '../runtime/spec/oci.ts';
import { specIdMap } from '../runtime/spec/namespaces.ts';
import type { MountInfo } from '../sys/mount.ts';
import { followSource, makeSource } from './mount-source.ts';

export interface MountsRequest {
  readonly mounts: readonly ContainerMount[];
  /** `bind_mount_prefix`, `` when none */
  readonly prefix: string;
  /** `absent_mount_sources_to_reject` */
  readonly rejectAbsent: readonly string[];
  /** Graph root: mounting it, or what holds it, must not pin every later container mount. */
  readonly storageRoot: string;
  /** Of this process, in kernel order. */
  readonly mountInfo: readonly MountInfo[];
  readonly runtime: { readonly recursiveReadOnlyMounts: boolean; readonly idmapMounts: boolean };
}

export interface BindMounts {
  readonly binds: readonly Mount[];
  readonly rootfsPropagation: 'rslave' | 'rshared' | undefined;
  /** As in the request, with the host paths that were resolved. */
  readonly volumes: readonly ContainerMount[];
}

/**
 * The binds of a request (mounts of images are not looked at): links in the last part of a source are followed, missing
 * sources become directories. Throws CRI-O's texts.
 */
export async function resolveMounts(request: MountsRequest): Promise<BindMounts> {
  const resolved: { mount: ContainerMount; propagation: MountPropagation }[] = [];
  // in the order in which they are mounted later, so that a parent directory is made first
  for (const mount of request.mounts.filter(({ image }) => image === undefined).toSorted(byDepth)) {
    if (mount.containerPath === '') throw new CrioError('invalid', 'mount.ContainerPath is empty');
    if (mount.hostPath === '') throw new CrioError('invalid', 'mount.HostPath is empty');
    const hostPath = await resolveSource(mount.hostPath, request);
    const here = { ...mount, hostPath, containerPath: posix.resolve('/', mount.containerPath) };
    resolved.push({ mount: here, propagation: choosePropagation(here, request) });
  }
  return {
    binds: resolved.map(({ mount, propagation }) => bindOf(mount, propagation, request)),
    rootfsPropagation: rootfsPropagation(resolved.map(({ propagation }) => propagation)),
    volumes: inRequestOrder(
      request.mounts,
      resolved.map(({ mount }) => mount),
    ),
  };
}

function byDepth(a: ContainerMount, b: ContainerMount): number {
  return a.containerPath.split('/').length - b.containerPath.split('/').length;
}

/** Status shows the mounts as the request had them. */
function inRequestOrder(asked: readonly ContainerMount[], resolved: readonly ContainerMount[]): ContainerMount[] {
  const bySource = new Map(resolved.map((mount) => [mount.containerPath, mount]));
  return asked.map((mount) => bySource.get(posix.resolve('/', mount.containerPath)) ?? mount);
}

async function resolveSource(hostPath: string, { prefix, rejectAbsent, mountInfo }: MountsRequest): Promise<string> {
  const source = posix.join('/', prefix, hostPath);
  const real = await followSource(source, mountInfo);
  if (real !== undefined) return real === source ? source : below(prefix, real);
  // CRI-O's text
  if (rejectAbsent.includes(hostPath)) {
    throw new CrioError(
      'invalid',
      `cannot mount ${hostPath}: path does not exist and will cause issues as a directory`,
    );
  }
  await makeSource(source, mountInfo);
  return source;
}

/** With a prefix the links are those of the host seen below it: an absolute target starts at the prefix. */
function below(prefix: string, target: string): string {
  if (prefix === '' || target === prefix || target.startsWith(`${prefix}/`)) return target;
  return posix.join(prefix, target);
}

/** What contains the storage root is mounted as a slave: unmounts on the host must reach the container, or stay busy. */
function choosePropagation(mount: ContainerMount, { storageRoot, mountInfo }: MountsRequest): MountPropagation {
  const { propagation, hostPath } = mount;
  const holder = mountHolding(hostPath, mountInfo);
  const isShared = holder?.optional.some((tag) => tag.startsWith('shared:')) === true;
  const isSlave = holder?.optional.some((tag) => tag.startsWith('master:')) === true;
  const where = `path "${hostPath}" is mounted on "${holder?.mountPoint ?? '/'}" but it is not a shared`;
  // CRI-O's texts
  if (propagation === MountPropagation.bidirectional && !isShared)
    throw new CrioError('failed-precondition', `${where} mount`);
  if (propagation === MountPropagation.hostToContainer && !isShared && !isSlave) {
    throw new CrioError('failed-precondition', `${where} or slave mount`);
  }
  const holdsStorage = propagation === MountPropagation.private && isSameOrAbove(hostPath, storageRoot);
  return holdsStorage && (isShared || isSlave) ? MountPropagation.hostToContainer : propagation;
}

function isSameOrAbove(path: string, other: string): boolean {
  return path === '/' || other === path || other.startsWith(`${path}/`);
}

/** The mount a path lies on: the longest mount point, of several on one point the last. */
export function mountHolding(path: string, mountInfo: readonly MountInfo[]): MountInfo | undefined {
  let best: MountInfo | undefined;
  for (const info of mountInfo) {
    if (isSameOrAbove(info.mountPoint, path) && info.mountPoint.length >= (best?.mountPoint.length ?? 0)) best = info;
  }
  return best;
}

const propagationOption = ['rprivate', 'rslave', 'rshared'] as const;
const propagationName = ['PROPAGATION_PRIVATE', 'PROPAGATION_HOST_TO_CONTAINER', 'PROPAGATION_BIDIRECTIONAL'] as const;

function bindOf(mount: ContainerMount, propagation: MountPropagation, { runtime }: MountsRequest): Mount {
  const options = ['rbind', propagationOption[propagation], accessOf(mount, runtime.recursiveReadOnlyMounts), 'bind'];
  const bind: Mount = { destination: mount.containerPath, type: 'bind', source: mount.hostPath, options };
  if (mount.uidMappings.length === 0 && mount.gidMappings.length === 0) return bind;
  if (!runtime.idmapMounts) {
    // CRI-O's text
    const text = 'idmap mounts specified but OCI runtime does not support them. Perhaps the OCI runtime is too old';
    throw new CrioError('failed-precondition', text);
  }
  const uidMappings = mount.uidMappings.map(specIdMap);
  return { ...bind, options: [...options, 'idmap'], uidMappings, gidMappings: mount.gidMappings.map(specIdMap) };
}

/** CRI-O's texts. */
function accessOf(mount: ContainerMount, hasRecursiveReadOnly: boolean): 'ro' | 'rw' | 'rro' {
  if (!mount.recursiveReadOnly) return mount.readonly ? 'ro' : 'rw';
  const where = `for hostPath "${mount.hostPath}"`;
  if (!hasRecursiveReadOnly)
    throw new CrioError('failed-precondition', `recursive read-only mount support is not available ${where}`);
  if (!mount.readonly)
    throw new CrioError('invalid', `recursive read-only mount conflicts with read-write mount ${where}`);
  if (mount.propagation === MountPropagation.private) return 'rro';
  const got = propagationName[mount.propagation];
  throw new CrioError('invalid', `recursive read-only mount requires private propagation ${where}, got: ${got}`);
}

function rootfsPropagation(all: readonly MountPropagation[]): 'rslave' | 'rshared' | undefined {
  if (all.includes(MountPropagation.bidirectional)) return 'rshared';
  return all.includes(MountPropagation.hostToContainer) ? 'rslave' : undefined;
}
