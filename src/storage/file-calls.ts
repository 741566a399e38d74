import {
  chmod,
  chmodSync,
  chown,
  chownSync,
  mkdir,
  mkdirSync,
  open,
  openSync,
  rename,
  renameSync,
  stat,
  statSync,
  statfsSync,
  symlink,
  symlinkSync,
  unlink,
  unlinkSync,
  write,
  writeSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { promisify } from 'node:util';

/** The file system calls that the life of a container is made of; what they give may be awaited in either form. */
export interface FileCalls {
  mkdir(path: string, mode: number): Promise<unknown> | void;
  symlink(target: string, path: string): Promise<void> | void;
  rename(from: string, to: string): Promise<void> | void;
  unlink(path: string): Promise<void> | void;
  chmod(path: string, mode: number): Promise<void> | void;
  chown(path: string, uid: number, gid: number): Promise<void> | void;
  stat(path: string): Promise<Stats> | Stats;
  /** `flags` of open(2) */
  open(path: string, flags: number, mode: number): Promise<number> | number;
  /** Returns how many bytes were written. */
  write(fd: number, data: Uint8Array, offset: number, position: number | null): Promise<number> | number;
}

const writeOnPool: (
  fd: number,
  data: Uint8Array,
  offset: number,
  length: number,
  position: number | null,
) => Promise<{ bytesWritten: number }> = promisify(write);
const symlinkOnPool: (target: string, path: string) => Promise<void> = promisify(symlink);

/** A disk may take its time, or hang: its calls run on the thread pool. */
export const pooledCalls: FileCalls = {
  mkdir: promisify<string, number, unknown>(mkdir),
  symlink: symlinkOnPool,
  rename: promisify(rename),
  unlink: promisify(unlink),
  chmod: promisify(chmod),
  chown: promisify(chown),
  stat: promisify<string, Stats>(stat),
  open: promisify(open),
  write: async (fd, data, offset, position) =>
    (await writeOnPool(fd, data, offset, data.length - offset, position)).bytesWritten,
};

/** Memory answers at once: the trip to another thread costs ten times the call. */
export const directCalls: FileCalls = {
  mkdir(path, mode) {
    mkdirSync(path, mode);
  },
  symlink: symlinkSync,
  rename: renameSync,
  unlink: unlinkSync,
  chmod: chmodSync,
  chown: chownSync,
  stat: (path) => statSync(path),
  open: openSync,
  write: (fd, data, offset, position) => writeSync(fd, data, offset, data.length - offset, position),
};

/** TMPFS_MAGIC and RAMFS_MAGIC of statfs(2). */
const memoryTypes: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);

export function fileCallsFor(folder: string): FileCalls {
  return memoryTypes.has(statfsSync(folder).type) ? directCalls : pooledCalls;
}
