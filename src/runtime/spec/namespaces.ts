import { type IdMapping, NamespaceMode } from '../../pod/config.ts';
import type { Draft } from './draft.ts';
import type { NamespacePaths } from './input.ts';
import type { IdMap } from './oci.ts';

export interface NamespaceRequest {
  readonly pid: NamespaceMode;
  /** Joined when set; without it a new one is made. */
  readonly pidPath: string | undefined;
  readonly paths: NamespacePaths;
  readonly hostNetwork: boolean;
  readonly privateCgroup: boolean;
}

/** Fills `linux.namespaces` in CRI-O's order. A namespace without a pinned path belongs to the runtime's caller. */
export function setNamespaces(draft: Draft, request: NamespaceRequest): void {
  const list = draft.linux.namespaces;
  if (request.pid !== NamespaceMode.node)
    list.push(request.pidPath === undefined ? { type: 'pid' } : { type: 'pid', path: request.pidPath });
  for (const type of ['network', 'ipc', 'uts'] as const) {
    const path = request.paths.get(type);
    if (path !== undefined && !(type === 'network' && request.hostNetwork)) list.push({ type, path });
  }
  list.push({ type: 'mount' });
  const user = request.paths.get('user');
  if (user !== undefined) list.push({ type: 'user', path: user });
  if (request.privateCgroup) list.push({ type: 'cgroup' });
}

/** Written also when the user namespace is joined by path: tools read the ranges from here after a restart. */
export function setIdMappings(draft: Draft, uidMap: readonly IdMapping[], gidMap: readonly IdMapping[]): void {
  if (uidMap.length > 0) draft.linux.uidMappings = uidMap.map(specIdMap);
  if (gidMap.length > 0) draft.linux.gidMappings = gidMap.map(specIdMap);
}

export function specIdMap({ containerId, hostId, size }: IdMapping): IdMap {
  return { containerID: containerId, hostID: hostId, size };
}
