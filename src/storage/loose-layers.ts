import { fdatasync as fdatasyncCallback, ftruncateSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { hasCode } from '../base/errors.ts';
import { isId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { tryAcquireFileLock } from '../sys/lock.ts';
import type { LockHandle } from '../sys/lock.ts';
import { pooledCalls } from './file-calls.ts';

const fdatasync = promisify(fdatasyncCallback);
/** Above this the file is written anew. */
const maxBytes = 1 << 20;

/**
 * Ids of the layers that are in the index and that no image has, for a while: a pull adds layers before the image, a
 * removal deletes them after it. They are in a file beside the index, on disk before the index changes, so that the start
 * after a crash knows them: without an image they would stay for ever, and nobody would see what fills the disk. Layers
 * that another program added are not in it: that may be in the middle of a pull.
 *
 * The file is locked by the process that has the store open first, until it ends. Another one, as `crio check` beside the
 * daemon, has nothing to finish and notes nothing.
 */
export class LooseLayers implements Disposable {
  readonly #lock: LockHandle | undefined;
  readonly #log: Logger;
  readonly #ids: Set<string>;
  #size = 0;
  /** The note before, done or failed: they are written one after the other. */
  #writing: Promise<void> = Promise.resolve();

  /** Creates the file if need be; its folder exists. */
  constructor(path: string, log: Logger) {
    this.#log = log;
    this.#lock = lockOrWarn(path, log);
    const text = this.#lock === undefined ? '' : readFileSync(this.#lock.fd, 'utf8');
    this.#size = Buffer.byteLength(text);
    // A crash may leave half a line.
    this.#ids = new Set(text.split('\n').filter(isId));
  }

  /** Those noted by this process, and by the one before that did not come to an end. */
  list(): readonly string[] {
    return [...this.#ids];
  }

  /** On disk when this returns. A disk that is full takes no note, but must let images go: that is a warning only. */
  note(ids: readonly string[]): Promise<void> {
    const added = ids.filter((id) => !this.#ids.has(id));
    if (added.length === 0) return this.#writing;
    for (const id of added) this.#ids.add(id);
    const write = () =>
      this.#write(added).catch((error: unknown) => this.#log.warn('note layers that have no image', error));
    this.#writing = this.#writing.then(write);
    return this.#writing;
  }

  /** They have an image, or are gone. */
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
      done += await pooledCalls.write(this.#lock.fd, data.subarray(done), 0, this.#size + done);
    this.#size += data.length;
    await fdatasync(this.#lock.fd);
  }

  /** Not synced: a line too many does no harm, since what an image has stays. */
  #truncate(): void {
    if (this.#lock === undefined) return;
    try {
      ftruncateSync(this.#lock.fd, 0);
      this.#size = 0;
    } catch (error) {
      this.#log.warn('empty the note of layers that have no image', error);
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
