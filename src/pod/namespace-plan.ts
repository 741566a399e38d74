import { CrioError } from '../base/errors.ts';
import { NamespaceMode, type IdMapping, type NamespaceOptions, type PodConfig } from './config.ts';

export type PodNamespace = 'network' | 'ipc' | 'uts' | 'user';

/** Folder of each kind below `namespaces_dir`. */
const folders: Readonly<Record<PodNamespace, string>> = {
  network: 'netns',
  ipc: 'ipcns',
  uts: 'utsns',
  user: 'userns',
};

export interface NamespacePlan {
  /** Where each namespace is pinned. */
  readonly paths: ReadonlyMap<PodNamespace, string>;
  /** Namespaces of the host that are pinned at such a path too. */
  readonly ofHost: ReadonlySet<PodNamespace>;
}

/** Which namespaces a pod gets. All share one uuid; uts is always new. Pure. */
export function planNamespaces(options: {
  namespacesDir: string;
  uuid: string;
  namespaces: NamespaceOptions;
  hasUserNamespace: boolean;
}): NamespacePlan {
  const { namespacesDir, uuid, namespaces, hasUserNamespace } = options;
  const kinds: PodNamespace[] = ['uts', 'ipc', 'network', ...(hasUserNamespace ? (['user'] as const) : [])];
  const ofHost = new Set<PodNamespace>();
  if (namespaces.network === NamespaceMode.node) ofHost.add('network');
  if (namespaces.ipc === NamespaceMode.node) ofHost.add('ipc');
  return { paths: new Map(kinds.map((kind) => [kind, `${namespacesDir}/${folders[kind]}/${uuid}`])), ofHost };
}

export interface UserNamespace {
  readonly uidMap: readonly IdMapping[];
  readonly gidMap: readonly IdMapping[];
}

/** The id mappings a request asks for; empty ones mean no user namespace. The text is CRI-O's. */
export function chooseUserNamespace(namespaces: NamespaceOptions): UserNamespace {
  const { userns } = namespaces;
  if (userns === undefined || userns.mode === NamespaceMode.node) return { uidMap: [], gidMap: [] };
  if (userns.mode !== NamespaceMode.pod) {
    const names = Object.entries(NamespaceMode);
    const name = names.find(([, value]) => value === userns.mode)?.[0].toUpperCase() ?? userns.mode;
    throw new CrioError('unknown', `unsupported pod mode: "${name}"`);
  }
  for (const mapping of [...userns.uids, ...userns.gids]) checkMapping(mapping);
  return { uidMap: userns.uids, gidMap: userns.gids };
}

const maxId = 0xffff_ffff;

function checkMapping({ containerId, hostId, size }: IdMapping): void {
  const isValid = [containerId, hostId, size].every((value) => Number.isSafeInteger(value) && value >= 0);
  if (isValid && size > 0 && containerId + size <= maxId && hostId + size <= maxId) return;
  throw new CrioError('invalid', `id mapping ${containerId}:${hostId}:${size}: out of range`);
}

/** Owner on the host of files that belong to the pod's root. */
export function rootOwner(userNamespace: UserNamespace): { uid: number; gid: number } {
  return { uid: hostIdOf(userNamespace.uidMap, 0), gid: hostIdOf(userNamespace.gidMap, 0) };
}

function hostIdOf(map: readonly IdMapping[], id: number): number {
  const range = map.find(({ containerId, size }) => id >= containerId && id < containerId + size);
  return range === undefined ? id : range.hostId + id - range.containerId;
}

/** Absent options are empty ones: everything shared in the pod, the PID namespace too. */
export function effectiveNamespaces(config: PodConfig): NamespaceOptions {
  return config.securityContext?.namespaceOptions ?? { network: 0, pid: 0, ipc: 0, targetId: '', userns: undefined };
}

/** Privileged by itself, or because it uses a namespace of the node. */
export function isPrivileged(config: PodConfig): boolean {
  const { network, pid, ipc } = effectiveNamespaces(config);
  return config.securityContext?.privileged === true || [network, pid, ipc].includes(NamespaceMode.node);
}

/** An infra container runs when something needs its process. */
export function isInfraKept(options: {
  dropInfraCtr: boolean;
  namespaces: NamespaceOptions;
  handler: string;
  runtimeType: string;
}): boolean {
  const isVirtualMachine = options.runtimeType === 'vm' || options.handler.toLowerCase().includes('kata');
  return !options.dropInfraCtr || options.namespaces.pid === NamespaceMode.pod || isVirtualMachine;
}
