import { fdatasync as fdatasyncCallback, ftruncateSync, readFileSync, write as writeCallback } from 'node:fs';
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

/**
 * Ids of what is on disk for a while without anybody who would ever delete it, as layers and blobs of a pull before its
 * image. They are in a file, on disk before what they stand for, so that the start after a crash knows them. What another
 * program brings is not in it: that may be in the middle of its work.
 *
 * The file is locked by the process that opens it first, until it ends. Another one, as `crio check` beside the daemon,
 * has nothing to finish and notes nothing.
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
    this.#lock = lockOrWarn(path, log);
    const text = this.#lock === undefined ? '' : readFileSync(this.#lock.fd, 'utf8');
    this.#size = Buffer.byteLength(text);
    // A crash may leave half a line.
    this.#ids = new Set(text.split('\n').filter((line) => /^[a-z0-9:]+$/.test(line)));
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
      if (this.#ids.size === 0) this.#truncate();
    });
  }

  [Symbol.dispose](): void {
    this.#lock?.release();
  }

  async #write(added: readonly string[]): Promise<void> {
    if (this.#lock === undefined) return;
    const isFull = this.#size > maxBytes;
    if (isFull) this.#truncate();
    // The line before may be half a one.
    const data = Buffer.from(`\n${(isFull ? [...this.#ids] : added).join('\n')}\n`);
    for (let done = 0; done < data.length;)
      done += (await write(this.#lock.fd, data, done, data.length - done, this.#size + done)).bytesWritten;
    this.#size += data.length;
    await fdatasync(this.#lock.fd);
  }

  /** Not synced: a line too many does no harm, since what somebody has stays. */
  #truncate(): void {
    if (this.#lock === undefined) return;
    try {
      ftruncateSync(this.#lock.fd, 0);
      this.#size = 0;
    } catch (error) {
      this.#log.warn(`empty "${this.#path}"`, error);
    }
  }
}

function lockOrWarn(path: string, log: Logger): LockHandle | undefined {
  try {
    return tryAcquireFileLock(path, 'write');
  } catch (error) {
    if (!hasCode(error, 'EROFS', 'ENOSPC', 'EDQUOT')) throw error;
    log.warn(`open "${path}"`, error);
    return undefined;
  }
}
