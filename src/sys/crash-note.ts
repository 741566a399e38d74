import {
  closeSync,
  fdatasync as fdatasyncCallback,
  ftruncateSync,
  openSync,
  readFileSync,
  write as writeCallback,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { hasCode } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { tryAcquireFileLock } from './lock.ts';
import type { LockHandle } from './lock.ts';

const fdatasync = promisify(fdatasyncCallback);
const write: (
  fd: number,
  data: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ bytesWritten: number }> = promisify(writeCallback);
/** Above this the file is written anew. */
const maxBytes = 1 << 20;
/** The file keeps a block, in which a disk that is full takes a note, too. */
const blank = Buffer.alloc(4096, '\n');

/**
 * Ids of what is on disk for a while without anybody who would ever delete it, as layers and blobs of a pull before its
 * image. They are in a file, on disk before what they stand for, so that the start after a crash knows them. What another
 * program brings is not in it: that may be in the middle of its work.
 *
 * The file is locked by the process that opens it first, until it ends, with a lock for reading: a file system with a file
 * open for writing cannot be remounted read-only. Another process, as `crio check` beside the daemon, has nothing to
 * finish and notes nothing.
 */
export class CrashNote implements Disposable {
  readonly #lock: LockHandle | undefined;
  readonly #path: string;
  readonly #log: Logger;
  readonly #ids: Set<string>;
  #size = 0;
  /** The note before, done or failed: they are written one after the other. */
  #writing: Promise<void> = Promise.resolve();

  /** Creates the file if need be; its folder exists. */
  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
    const { lock, text } = open(path, log);
    this.#lock = lock;
    this.#size = Buffer.byteLength(text);
    if (text === '') this.#empty();
    // A crash may leave half a line.
    this.#ids = new Set(text.split('\n').filter((line) => /^[a-z0-9:]+$/.test(line)));
  }

  /** No other process had the file open when this one opened it: what is unfinished is left by one that ended. */
  get isFirst(): boolean {
    return this.#lock !== undefined;
  }

  /** Those noted by this process, and by the one before that did not come to an end. */
  list(): readonly string[] {
    return [...this.#ids];
  }

  /** On disk when this returns. A disk that is full takes no note, but things must be deleted from it: that is a warning only. */
  note(ids: readonly string[]): Promise<void> {
    const added = ids.filter((id) => !this.#ids.has(id));
    if (added.length === 0) return this.#writing;
    for (const id of added) this.#ids.add(id);
    const writeThem = () =>
      this.#write(added).catch((error: unknown) => this.#log.warn(`note in "${this.#path}"`, error));
    this.#writing = this.#writing.then(writeThem);
    return this.#writing;
  }

  /** They belong to somebody now, or are gone. */
  forget(ids: readonly string[]): void {
    let isChanged = false;
    for (const id of ids) isChanged = this.#ids.delete(id) || isChanged;
    if (!isChanged || this.#ids.size > 0) return;
    this.#writing = this.#writing.then(() => {
      if (this.#ids.size === 0) this.#empty();
    });
  }

  [Symbol.dispose](): void {
    this.#lock?.release();
  }

  async #write(added: readonly string[]): Promise<void> {
    if (this.#lock === undefined) return;
    const isFull = this.#size > maxBytes;
    if (isFull) this.#empty();
    // The line before may be half a one.
    const data = Buffer.from(`\n${(isFull ? [...this.#ids] : added).join('\n')}\n`);
    const fd = openSync(this.#path, 'r+');
    try {
      for (let done = 0; done < data.length;)
        done += (await write(fd, data, done, data.length - done, this.#size + done)).bytesWritten;
      this.#size += data.length;
      await fdatasync(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Not synced: a line too many does no harm, since what somebody has stays. */
  #empty(): void {
    if (this.#lock === undefined) return;
    try {
      makeBlank(this.#path);
      this.#size = 0;
    } catch (error) {
      this.#log.warn(`empty "${this.#path}"`, error);
    }
  }
}

/** Without a lock when another process has the file open. */
function open(path: string, log: Logger): { readonly lock: LockHandle | undefined; readonly text: string } {
  const nothing = { lock: undefined, text: '' };
  try {
    const alone = tryAcquireFileLock(path, 'write');
    if (alone === undefined) return nothing;
    const text = readFileSync(alone.fd, 'utf8').trimEnd();
    alone.release();
    return { lock: tryAcquireFileLock(path, 'read'), text };
  } catch (error) {
    if (!hasCode(error, 'EROFS', 'ENOSPC', 'EDQUOT')) throw error;
    log.warn(`open "${path}"`, error);
    return nothing;
  }
}

function makeBlank(path: string): void {
  const fd = openSync(path, 'r+');
  try {
    writeSync(fd, blank, 0, blank.length, 0);
    ftruncateSync(fd, blank.length);
  } finally {
    closeSync(fd);
  }
}
