import { rmdir, unlink } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW, umountAsync } from '../sys/mount.ts';
import type { Container } from './container.ts';
import type { Context } from './context.ts';

/**
 * Undoes the mounts that were made for this container alone: sub paths of image volumes in its bundle, and the pinned
 * PID namespace of another container. Its spec names them, so nothing has to be searched for.
 */
export async function releaseMounts({ config }: Context, container: Container): Promise<void> {
  const pinned = `${config().runtime.namespacesDir}/pidns/`;
  const namespace = container.spec.linux?.namespaces?.find(({ path }) => path?.startsWith(pinned) === true)?.path;
  for (const path of subPaths(container)) await unmountAndRemove(path);
  if (namespace !== undefined) await unmountAndRemove(namespace);
}

/** An image volume is an overlay whose first lower layer is the bound sub path. */
function subPaths({ bundle, spec }: Container): string[] {
  const prefix = `lowerdir=${bundle}/subpath`;
  const options = (spec.mounts ?? []).flatMap((mount) => (mount.type === 'overlay' ? (mount.options ?? []) : []));
  return options
    .filter((option) => option.startsWith(prefix))
    .map((option) => option.slice('lowerdir='.length).split(':')[0] ?? '');
}

/** Nothing is there any more: success. The mount point may be a directory or a file. */
async function unmountAndRemove(path: string): Promise<void> {
  try {
    await umountAsync(path, MNT_DETACH | UMOUNT_NOFOLLOW);
  } catch (error) {
    if (!hasCode(error, 'EINVAL', 'ENOENT')) throw error;
  }
  try {
    await unlink(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    if (!hasCode(error, 'EISDIR', 'EPERM')) throw error;
    await rmdir(path);
  }
}
