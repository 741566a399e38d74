import { readdir } from 'node:fs/promises';
import type { Logger } from '../base/log.ts';
import { CrioError, wrap } from '../base/errors.ts';
import type { UncheckedConfig } from '../config/config.ts';
import type { ContainerRecord, Store } from '../storage/store.ts';

/** How the commands that work on the store get at it. */
export interface StoreAccess {
  readonly openStore: (config: UncheckedConfig, log: Logger) => Promise<Store>;
}

/** Names of the pod and of the image in the metadata of a container; undefined for another tool's container. */
export function crioContainer(
  record: ContainerRecord,
): { readonly name: string; readonly imageId: string } | undefined {
  let metadata: unknown;
  try {
    metadata = JSON.parse(record.metadata);
  } catch {
    return undefined;
  }
  if (typeof metadata !== 'object' || metadata === null || !('pod-name' in metadata) || !('pod-id' in metadata))
    return undefined;
  const { 'pod-name': podName, 'pod-id': podId } = metadata;
  if (typeof podName !== 'string' || podName === '' || typeof podId !== 'string' || podId === '') return undefined;
  return { name: record.names[0] ?? record.id, imageId: record.imageId };
}

/**
 * Removes the graph root with all images and containers. Refused while anything is mounted in it, as the roots of
 * running containers are, podman's too.
 */
export async function removeStorage(graphRoot: string): Promise<void> {
  // Loaded here: commands that do not need native code start without it.
  const [{ MNT_DETACH, readMountInfo, umount }, { removeTree }] = await Promise.all([
    import('../sys/mount.ts'),
    import('../storage/remove-tree.ts'),
  ]);
  // Other tools bind the home of the driver onto itself; that alone is no use of the store.
  const home = `${graphRoot}/overlay`;
  const mounted = readMountInfo().map(({ mountPoint }) => mountPoint);
  const used = mounted.find((path) => path.startsWith(`${graphRoot}/`) && path !== home);
  if (used !== undefined) {
    throw new CrioError('failed-precondition', `remove storage directory "${graphRoot}": in use, "${used}" is mounted`);
  }
  try {
    for (const path of mounted) if (path === home) umount(path, MNT_DETACH);
    // The root itself stays: it may be a disk of its own.
    for (const name of await readdir(graphRoot)) await removeTree(`${graphRoot}/${name}`);
  } catch (error) {
    throw wrap(`remove storage directory "${graphRoot}"`, error);
  }
}
