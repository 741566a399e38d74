import { chownSync, mkdirSync } from 'node:fs';
import { CrioError, hasCode } from '../base/errors.ts';
import {
  MNT_DETACH,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  UMOUNT_NOFOLLOW,
  mount,
  umount,
  umountAsync,
} from '../sys/mount.ts';

const defaultSize = 64 << 20;

/** The annotation's size in bytes, 64 MiB without one. `parse` reads a Kubernetes quantity. */
export function chooseShmSize(annotation: string | undefined, parse: (text: string) => number | undefined): number {
  if (annotation === undefined) return defaultSize;
  const size = parse(annotation);
  if (size === undefined) throw new CrioError('unknown', `failed to parse shm size '${annotation}'`);
  if (size <= 0) throw new CrioError('unknown', `shm size ${annotation} must be greater than 0`);
  return size;
}

/** Mounts the pod's /dev/shm; the folder lies in tmpfs. On failure nothing is mounted. */
export function mountShm(path: string, options: { sizeBytes: number; owner: { uid: number; gid: number } }): void {
  mkdirSync(path, { mode: 0o700 });
  mount('shm', path, 'tmpfs', MS_NOEXEC | MS_NOSUID | MS_NODEV, `mode=1777,size=${options.sizeBytes}`);
  const { uid, gid } = options.owner;
  if (uid === 0 && gid === 0) return;
  try {
    chownSync(path, uid, gid);
  } catch (error) {
    umount(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    throw error;
  }
}

/** Not mounted, or gone, is success. */
export async function unmountShm(path: string): Promise<void> {
  try {
    await umountAsync(path, MNT_DETACH | UMOUNT_NOFOLLOW);
  } catch (error) {
    if (!hasCode(error, 'EINVAL', 'ENOENT')) throw error;
  }
}
