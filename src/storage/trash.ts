import type { Logger } from '../base/log.ts';
import type { FileCalls } from './file-calls.ts';
import { removeTree } from './remove-tree.ts';
import { createTempDir } from './temp-dirs.ts';
import type { TempDir } from './temp-dirs.ts';

/** Deletions within this time share a folder and a deleting program, and are out of the way of the calls after them. */
const sweepMs = 1000;

/**
 * Where deleted layers go first: a rename is instant, the deletion itself happens in the background, and what a crash
 * interrupts is deleted by the next program that opens the store.
 */
export class Trash implements AsyncDisposable {
  readonly #parent: string;
  readonly #log: Logger;
  readonly #calls: FileCalls;
  #current: Bin | undefined;
  readonly #sweeping = new Set<Promise<void>>();

  constructor(parent: string, log: Logger, calls: FileCalls) {
    this.#calls = calls;
    this.#parent = parent;
    this.#log = log;
  }

  /** Runs `work` with a folder to move things into; it is deleted soon after the last work with it has ended. */
  async use<T>(work: (folder: TempDir) => Promise<T>): Promise<T> {
    const bin = (this.#current ??= { folder: this.#create(), users: 0 });
    bin.users += 1;
    try {
      return await work(await bin.folder);
    } finally {
      bin.users -= 1;
      if (bin.users === 0) setTimeout(() => this.#sweep(bin), sweepMs).unref();
    }
  }

  /** Deleting must work on a full disk, too, where no folder can be made: then things are deleted where they are. */
  async #create(): Promise<TempDir> {
    try {
      return await createTempDir(this.#parent, this.#calls);
    } catch (error) {
      this.#log.warn('make a folder for deleted layers', error);
      return deleteInPlace(this.#parent);
    }
  }

  /** Waits until everything is deleted. */
  async empty(): Promise<void> {
    if (this.#current !== undefined) this.#sweep(this.#current);
    await Promise.all(this.#sweeping);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.empty();
  }

  #sweep(bin: Bin): void {
    if (bin.users > 0 || this.#current !== bin) return;
    this.#current = undefined;
    const work = bin.folder
      .then((folder) => folder[Symbol.asyncDispose]())
      .catch((error: unknown) => this.#log.warn('delete layers', error))
      .finally(() => this.#sweeping.delete(work));
    this.#sweeping.add(work);
  }
}

function deleteInPlace(path: string): TempDir {
  return {
    path,
    entry: (name) => `${path}/${name}`,
    take: (source) => removeTree(source),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

interface Bin {
  readonly folder: Promise<TempDir>;
  users: number;
}
