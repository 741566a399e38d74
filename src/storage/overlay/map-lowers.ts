import { closeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { wrap } from '../../base/errors.ts';
import {
  MNT_DETACH,
  MOUNT_ATTR_IDMAP,
  MS_PRIVATE,
  OPEN_TREE_CLONE,
  UMOUNT_NOFOLLOW,
  mountSetattr,
  moveMount,
  openTree,
  umountAsync,
} from '../../sys/mount.ts';

export interface MappedLowers extends AsyncDisposable {
  readonly lowers: readonly string[];
}

/** Lowers through a copy of their tree's mount that maps ids. Disposed when overlay holds them. */
export async function mapLowers(options: {
  readonly lowers: readonly string[];
  /** The tree that a lower is in: each is mounted once. */
  rootOf(lower: string): string;
  /** Where the copies are mounted. */
  readonly folder: string;
  readonly userNamespaceFd: number;
}): Promise<MappedLowers> {
  const { lowers, folder, userNamespaceFd } = options;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const roots = [...new Set(lowers.map((lower) => options.rootOf(lower)))];
  await using undo = new AsyncDisposableStack();
  for (const [position, root] of roots.entries()) {
    const copy = `${folder}/${position}`;
    await mkdir(copy, { recursive: true, mode: 0o700 });
    mountMappedCopy(root, copy, userNamespaceFd);
    undo.defer(() => umountAsync(copy, MNT_DETACH | UMOUNT_NOFOLLOW));
  }
  const mapped = lowers.map((lower) => {
    const root = options.rootOf(lower);
    return `${folder}/${roots.indexOf(root)}${lower.slice(root.length)}`;
  });
  const copies = undo.move();
  return { lowers: mapped, [Symbol.asyncDispose]: () => copies.disposeAsync() };
}

function mountMappedCopy(source: string, target: string, userNamespaceFd: number): void {
  const tree = openTree(undefined, source, OPEN_TREE_CLONE);
  try {
    // Private: a copy that shares events with its source would take the new overlay along when it is detached.
    mountSetattr(tree, '', { set: MOUNT_ATTR_IDMAP, userNamespaceFd, propagation: MS_PRIVATE });
    moveMount(tree, undefined, target);
  } catch (error) {
    throw wrap(`id-map "${source}"`, error);
  } finally {
    closeSync(tree);
  }
}
