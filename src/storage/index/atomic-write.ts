import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fdatasync as fdatasyncCallback,
  fstatSync,
  fsync as fsyncCallback,
  open as openCallback,
  rename as renameCallback,
  unlink as unlinkCallback,
  write as writeCallback,
} from 'node:fs';
import { basename, dirname } from 'node:path';
import { promisify } from 'node:util';

// The callback forms behind `promisify` cost a third of `fs.promises`, whose file handles are objects with finalizers.
const open = promisify(openCallback);
const rename = promisify(renameCallback);
const unlink = promisify(unlinkCallback);
const fdatasync = promisify(fdatasyncCallback);
const fsync = promisify(fsyncCallback);
const write: (fd: number, data: Uint8Array, offset: number, length: number) => Promise<{ bytesWritten: number }> =
  promisify(writeCallback);

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
}

/** Writes new content of `path` beside it. */
export async function prepareWrite(path: string, data: Uint8Array, options: WriteOptions): Promise<PreparedWrite> {
  const folder = dirname(path);
  const temporary = `${folder}/.tmp-${basename(path)}${temporarySuffix()}`;
  const discard = async () => {
    await unlink(temporary).catch(() => undefined);
  };
  const fd = await open(temporary, createNew, options.mode ?? 0o600);
  let mtimeNs: bigint;
  try {
    await writeAll(fd, data);
    if (options.durable) await fdatasync(fd);
    mtimeNs = fstatSync(fd, { bigint: true }).mtimeNs;
  } catch (error) {
    await discard();
    throw error;
  } finally {
    closeSync(fd);
  }
  const commit = async () => {
    try {
      await rename(temporary, path);
    } catch (error) {
      await discard();
      throw error;
    }
    if (options.durable) await syncFolder(folder);
  };
  return { mtimeNs, commit, discard };
}

/** Replaces a file whole: a temporary file beside it, then rename. */
export async function atomicWrite(path: string, data: Uint8Array, options: WriteOptions): Promise<void> {
  const prepared = await prepareWrite(path, data, options);
  await prepared.commit();
}

/** Writes a new small file that nobody reads before this returns. */
export async function writeNewFile(path: string, data: Uint8Array, mode: number): Promise<void> {
  const fd = await open(path, createNew, mode);
  try {
    await writeAll(fd, data);
  } finally {
    closeSync(fd);
  }
}

export async function syncFolder(path: string): Promise<void> {
  const fd = await open(path, constants.O_RDONLY, 0);
  try {
    await fsync(fd);
  } finally {
    closeSync(fd);
  }
}

async function writeAll(fd: number, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length;) {
    const { bytesWritten } = await write(fd, data, at, data.length - at);
    at += bytesWritten;
  }
}
