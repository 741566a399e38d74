import { closeSync, constants, openSync } from 'node:fs';
import { relative, join } from 'node:path';
import { hasCode } from '../../base/errors.ts';
import { O_PATH } from '../../sys/arch.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW, readMountInfo, umount } from '../../sys/mount.ts';
import type { MountInfo } from '../../sys/mount.ts';

/**
 * The driver's home as it was when the daemon started. podman binds the home onto itself, and from 5.0 on leaves that
 * while any container is mounted: the paths of our mounts then lead to empty folders, only this descriptor leads to them.
 */
export class CoveredHome implements Disposable {
  readonly #fd: number;

  /** `home` must exist. */
  constructor(home: string) {
    uncover(home);
    this.#fd = openSync(home, O_PATH | constants.O_DIRECTORY);
  }

  /** Takes away all that is mounted at `path`, relative to the home, below what covers it now. */
  unmountAll(path: string): void {
    for (let attempt = 0; attempt < 8; attempt++) {
      try {
        umount(`/proc/self/fd/${this.#fd}/${path}`, MNT_DETACH | UMOUNT_NOFOLLOW);
      } catch (error) {
        if (hasCode(error, 'EINVAL', 'ENOENT')) return;
        throw error;
      }
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** Detaches binds of the home onto itself that hide mounts and hold none; podman makes them again when it needs one. */
function uncover(home: string): void {
  for (let attempt = 0; attempt < 8 && isUselessCover(home, readMountInfo()); attempt++) {
    try {
      umount(home, MNT_DETACH);
    } catch (error) {
      // Another file system is mounted over a folder above: the bind is below it, and hides nothing.
      if (hasCode(error, 'EINVAL')) return;
      throw error;
    }
  }
}

/** True when the uppermost mount at `home` shows the same folder as the mount below it, which has mounts in there. */
export function isUselessCover(home: string, mounts: readonly MountInfo[]): boolean {
  const cover = mounts.findLast((mount) => mount.mountPoint === home);
  const below = mounts.find((mount) => mount.id === cover?.parent);
  if (cover === undefined || below === undefined || cover.majorMinor !== below.majorMinor) return false;
  if (cover.root !== join(below.root, relative(below.mountPoint, home))) return false;
  const inside = mounts.filter((mount) => mount.mountPoint.startsWith(`${home}/`));
  return inside.length > 0 && !mounts.some((mount) => mount.parent === cover.id);
}
