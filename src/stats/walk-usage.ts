import { constants } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';

export interface Usage {
  readonly bytes: number;
  readonly inodes: number;
}

/** Called between two entries; paces the walk and throws to end it. */
export type Pace = () => Promise<void>;

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
/** A deeper tree is not walked further: each level holds a descriptor. */
const maxDepth = 200;

interface Tally {
  bytes: number;
  inodes: number;
  /** Hard links seen, so that a file with several names counts once. */
  readonly linked: Set<string>;
}

/**
 * Sizes of all files below a directory (folders count as inodes, not as bytes) and the number of its inodes, the
 * directory itself left out. The tree belongs to a running container that may change it meanwhile: every folder is
 * entered by a descriptor and no symlink is ever followed, so that the walk stays inside. One system call at a time.
 */
export async function walkUsage(directory: string, pace: Pace): Promise<Usage> {
  const tally: Tally = { bytes: 0, inodes: 0, linked: new Set() };
  await walk(directory, 0, tally, pace);
  return { bytes: tally.bytes, inodes: tally.inodes };
}

async function walk(directory: string, depth: number, tally: Tally, pace: Pace): Promise<void> {
  if (depth > maxDepth) return;
  const handle = await openDirectory(directory);
  if (handle === undefined) return;
  try {
    const base = `/proc/self/fd/${handle.fd}`;
    for (const entry of await readdir(base, { withFileTypes: true })) {
      await pace();
      const path = `${base}/${entry.name}`;
      if (entry.isDirectory()) {
        tally.inodes += 1;
        await walk(path, depth + 1, tally, pace);
      } else await count(path, tally);
    }
  } finally {
    await handle.close();
  }
}

/** Undefined when it is gone, or no folder any more. */
async function openDirectory(path: string) {
  try {
    return await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
}

async function count(path: string, tally: Tally): Promise<void> {
  try {
    const stats = await lstat(path);
    if (stats.isDirectory()) return;
    if (stats.nlink > 1) {
      const inode = `${stats.dev}:${stats.ino}`;
      if (tally.linked.has(inode)) return;
      tally.linked.add(inode);
    }
    tally.inodes += 1;
    tally.bytes += stats.size;
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR')) throw error;
  }
}
