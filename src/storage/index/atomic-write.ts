import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import * as fs from 'node:fs';
import { basename, dirname } from 'node:path';
import { promisify } from 'node:util';

// The callback forms behind `promisify` cost a third of `fs.promises`, whose file handles are objects with finalizers.
const open = promisify(fs.open);
const close = promisify(fs.close);
const rename = promisify(fs.rename);
const unlink = promisify(fs.unlink);
const fdatasync = promisify(fs.fdatasync);
const fsync = promisify(fs.fsync);
const write: (fd: number, data: Uint8Array, offset: number, length: number) => Promise<{ bytesWritten: number }> = promisify(
  fs.write,
);

const createNew = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;

/**
 * Replaces a file whole: a temporary file beside it, then rename. With `durable` the content is on the disk before the
 * name is, and the name when this returns. `beforeRename` runs when the new content is complete.
 * Returns the state of the new file.
 */
export async function atomicWrite(
  path: string,
  data: Uint8Array,
  options: { readonly durable: boolean; readonly mode?: number; readonly beforeRename?: () => Promise<void> },
): Promise<BigIntStats> {
  const temporary = `${dirname(path)}/.tmp-${basename(path)}${randomBytes(6).toString('hex')}`;
  const fd = await open(temporary, createNew, options.mode ?? 0o600);
  let stats: BigIntStats;
  try {
    try {
      await writeAll(fd, data);
      if (options.durable) await fdatasync(fd);
      stats = fs.fstatSync(fd, { bigint: true });
    } finally {
      await close(fd);
    }
    await options.beforeRename?.();
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  if (options.durable) await syncFolder(dirname(path));
  return stats;
}

/** Writes a new small file that nobody reads before this returns. */
export async function writeNewFile(path: string, data: Uint8Array, mode: number): Promise<void> {
  const fd = await open(path, createNew, mode);
  try {
    await writeAll(fd, data);
  } finally {
    await close(fd);
  }
}

export async function syncFolder(path: string): Promise<void> {
  const fd = await open(path, constants.O_RDONLY, 0);
  try {
    await fsync(fd);
  } finally {
    await close(fd);
  }
}

async function writeAll(fd: number, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length; ) {
    const { bytesWritten } = await write(fd, data, at, data.length - at);
    at += bytesWritten;
  }
}
