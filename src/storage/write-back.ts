import { closeSync, fstatSync, mkdirSync, openSync } from 'node:fs';
import { syncfsAsync } from '../sys/file.ts';

/** Bytes of blobs, as received, after which a sync begins: about 40 MB of files. */
const beginEveryBytes = 16 * 1024 * 1024;

/**
 * Brings unpacked layers to the disk, whole file systems at a time: syncfs(2). It begins while layers are still being
 * unpacked, so that the disk works meanwhile and the sync before the index has little left to do; the kernel by itself
 * would begin after 30 s.
 *
 * The kernel tells of a write that failed in one sync only, which need not be the one of the image whose data is lost. So
 * after a failure all that was begun before it counts as lost. It tells each open file once, and one that is opened after
 * the sync of another program not at all: so each file system has one that stays open.
 */
export class WriteBack implements AsyncDisposable {
  readonly #folders: readonly string[];
  readonly #syncfs: (fd: number) => Promise<void>;
  #fds: readonly number[] | undefined;
  #sinceLast = 0;
  #early: Promise<void> | undefined;
  #last: Promise<void> = Promise.resolve();
  /** The last one, while it waits for the one before. */
  #next: Promise<void> | undefined;
  #failures = 0;
  #lastFailure: unknown;

  /** `folders` may lie on several file systems. They are created if need be, once there is something to write. */
  constructor(folders: readonly string[], syncfs = syncfsAsync) {
    this.#folders = folders;
    this.#syncfs = syncfs;
  }

  /** To be asked for before the first byte of a layer is written, and given to `sync`. */
  mark(): number {
    this.#fds ??= openFileSystems(this.#folders);
    return this.#failures;
  }

  wrote(bytes: number): void {
    this.#sinceLast += bytes;
    if (this.#sinceLast < beginEveryBytes || this.#early !== undefined) return;
    this.#sinceLast = 0;
    // What fails is kept for those whose data it may have been.
    this.#early = this.#syncAll().finally(() => (this.#early = undefined));
  }

  /** Resolves when all that was written is on the disk; rejects when anything written since one of the marks may not be. */
  async sync(marks: readonly number[]): Promise<void> {
    await this.#syncAll();
    if (marks.some((mark) => mark !== this.#failures)) throw this.#lastFailure;
  }

  /** When nobody writes any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    for (const fd of this.#fds ?? []) closeSync(fd);
    this.#fds = undefined;
  }

  /**
   * One after the other: of two at once on the same files, one would be told of a failure and the other not. Those who ask
   * while one runs share the one after it.
   */
  #syncAll(): Promise<void> {
    this.#next ??= this.#last = this.#last.then(() => {
      this.#next = undefined;
      return this.#syncNow();
    });
    return this.#next;
  }

  /** Never rejects. */
  async #syncNow(): Promise<void> {
    // All of them, so that none tells of a failure later that the mark knows already.
    const results = await Promise.allSettled((this.#fds ?? []).map(this.#syncfs));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed === undefined) return;
    this.#failures++;
    this.#lastFailure = failed.reason;
  }
}

/** One file of each file system. */
function openFileSystems(folders: readonly string[]): readonly number[] {
  const opened = new Map<number, number>();
  try {
    for (const folder of folders) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const fd = openSync(folder, 'r');
      const { dev } = fstatSync(fd);
      if (opened.has(dev)) closeSync(fd);
      else opened.set(dev, fd);
    }
  } catch (error) {
    for (const fd of opened.values()) closeSync(fd);
    throw error;
  }
  return [...opened.values()];
}
