import { closeSync, fstatSync, openSync } from 'node:fs';
import { syncfsAsync } from '../sys/file.ts';

/** Bytes of blobs, as received, after which a sync begins: about 40 MB of files. */
const beginEveryBytes = 16 * 1024 * 1024;

/**
 * Brings unpacked layers to the disk, whole file systems at a time: syncfs(2). It begins while layers are still being
 * unpacked, so that the disk works meanwhile and the sync before the index has little left to do; the kernel by itself
 * would begin after 30 s.
 *
 * The kernel tells of a write that failed in one sync only, which need not be the one of the image whose data is lost. So
 * after a failure all that was begun before it counts as lost.
 */
export class WriteBack {
  readonly #folders: readonly string[];
  #sinceLast = 0;
  #early: Promise<void> | undefined;
  #failures = 0;
  #lastFailure: unknown;

  /** `folders` may lie on several file systems. */
  constructor(folders: readonly string[]) {
    this.#folders = folders;
  }

  /** To be asked for before the first byte of a layer is written, and given to `sync`. */
  mark(): number {
    return this.#failures;
  }

  wrote(bytes: number): void {
    this.#sinceLast += bytes;
    if (this.#sinceLast < beginEveryBytes || this.#early !== undefined) return;
    this.#sinceLast = 0;
    this.#early = this.#syncAll()
      // Kept for those whose data it may have been.
      .catch(() => undefined)
      .finally(() => (this.#early = undefined));
  }

  /** Resolves when all that was written is on the disk; rejects when anything written since one of the marks may not be. */
  async sync(marks: readonly number[]): Promise<void> {
    await this.#early;
    await this.#syncAll();
    if (marks.some((mark) => mark !== this.#failures)) throw this.#lastFailure;
  }

  async #syncAll(): Promise<void> {
    try {
      await syncFileSystems(this.#folders);
    } catch (error) {
      this.#failures++;
      this.#lastFailure = error;
      throw error;
    }
  }
}

/** Each file system once. */
export async function syncFileSystems(folders: readonly string[]): Promise<void> {
  const synced = new Set<number>();
  for (const folder of folders) {
    const fd = openSync(folder, 'r');
    try {
      const { dev } = fstatSync(fd);
      if (!synced.has(dev)) await syncfsAsync(fd);
      synced.add(dev);
    } finally {
      closeSync(fd);
    }
  }
}
