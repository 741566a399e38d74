import { randomBytes } from 'node:crypto';
import { closeSync, constants, fdatasync as fdatasyncCallback, fstatSync, fsync as fsyncCallback } from 'node:fs';
import { basename, dirname } from 'node:path';
import { promisify } from 'node:util';
import { wrap } from '../../base/errors.ts';
import { pooledCalls } from '../file-calls.ts';
import type { FileCalls } from '../file-calls.ts';

// The callback forms behind `promisify` cost a third of `fs.promises`, whose file handles are objects with finalizers.
const fdatasync = promisify(fdatasyncCallback);
const fsync = promisify(fsyncCallback);

const createNew = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;

const processSuffix = randomBytes(6).toString('hex');
let suffixCounter = 0;

function temporarySuffix(): string {
  suffixCounter += 1;
  return `${processSuffix}${suffixCounter}`;
}

/** New content of a file, complete under a temporary name. */
export interface PreparedWrite {
  /** Time of change that the file will have. */
  readonly mtimeNs: bigint;
  /** Puts it in place; with `durable` the name is on the disk when this returns. */
  commit(): Promise<void>;
  discard(): Promise<void>;
}

export interface WriteOptions {
  /** The content is synced before the name is there, and the name after. */
  readonly durable: boolean;
  readonly mode?: number;
  /** Those of the file system; on the thread pool by default. */
  readonly calls?: FileCalls;
}

/** Writes new content of `path` beside it. */
export async function prepareWrite(path: string, data: Uint8Array, options: WriteOptions): Promise<PreparedWrite> {
  const folder = dirname(path);
  const calls = options.calls ?? pooledCalls;
  const temporary = `${folder}/.tmp-${basename(path)}${temporarySuffix()}`;
  const discard = async () => {
    try {
      await calls.unlink(temporary);
    } catch {
      // The next open of the store cleans up.
    }
  };
  const fd = await calls.open(temporary, createNew, options.mode ?? 0o600);
  let mtimeNs: bigint;
  try {
    await writeAll(calls, fd, data);
    if (options.durable) await fdatasync(fd);
    mtimeNs = fstatSync(fd, { bigint: true }).mtimeNs;
  } catch (error) {
    await discard();
    // A failed write(2) names no file.
    throw wrap(`write "${path}"`, error);
  } finally {
    closeSync(fd);
  }
  const commit = async () => {
    try {
      await calls.rename(temporary, path);
    } catch (error) {
      await discard();
      throw error;
    }
    if (options.durable) await syncPath(folder);
  };
  return { mtimeNs, commit, discard };
}

/** All or none of them: when one cannot be prepared, the others are discarded, once each has come to its end. */
export async function allPrepared(
  work: readonly Promise<readonly PreparedWrite[]>[],
): Promise<readonly PreparedWrite[]> {
  const results = await Promise.allSettled(work);
  const writes = results.flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed === undefined) return writes;
  await discardAll(writes);
  throw failed.reason;
}

/** In this order, up to the first that fails; those after it are discarded. */
export async function commitAll(writes: readonly PreparedWrite[]): Promise<void> {
  for (const [position, write] of writes.entries()) {
    try {
      await write.commit();
    } catch (error) {
      await discardAll(writes.slice(position + 1));
      throw error;
    }
  }
}

async function discardAll(writes: readonly PreparedWrite[]): Promise<void> {
  for (const write of writes) await write.discard();
}

/** Replaces a file whole: a temporary file beside it, then rename. */
export async function atomicWrite(path: string, data: Uint8Array, options: WriteOptions): Promise<void> {
  const prepared = await prepareWrite(path, data, options);
  await prepared.commit();
}

/** Writes a new small file that nobody reads before this returns. */
export async function writeNewFile(
  path: string,
  data: Uint8Array,
  options: { readonly mode: number; readonly calls?: FileCalls },
): Promise<void> {
  const calls = options.calls ?? pooledCalls;
  const fd = await calls.open(path, createNew, options.mode);
  try {
    await writeAll(calls, fd, data);
  } finally {
    closeSync(fd);
  }
}

/** Of a file or a folder. */
export async function syncPath(path: string): Promise<void> {
  const fd = await pooledCalls.open(path, constants.O_RDONLY, 0);
  try {
    await fsync(fd);
  } finally {
    closeSync(fd);
  }
}

async function writeAll(calls: FileCalls, fd: number, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length;) at += await calls.write(fd, data, at, null);
}
