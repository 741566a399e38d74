import { rmSync } from 'node:fs';
import { MNT_DETACH, readMountInfo, umount } from '../../sys/mount.ts';

/** A test's folder, with all that is still mounted on it or below it. */
export function removeWithMounts(base: string): void {
  // The newest first: a mount may lie on another one.
  for (const { mountPoint } of readMountInfo().toReversed())
    if (mountPoint === base || mountPoint.startsWith(`${base}/`)) umount(mountPoint, MNT_DETACH);
  rmSync(base, { recursive: true });
}
