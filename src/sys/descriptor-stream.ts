import { closeSync, readSync, writeSync } from 'node:fs';
import { hasCode } from '../base/errors.ts';
import { nextTurn } from '../base/next-turn.ts';
import { watchDescriptor } from './libc.ts';
import type { DescriptorWatch } from './libc.ts';

/** As much as a pipe holds, pipe(7): one read empties it. */
const chunkSize = 65536;
/** Shared by all readers: a chunk is copied before the next read. */
const scratch = Buffer.allocUnsafe(chunkSize);
/** Reads in a row without waiting, after which the event loop gets a turn. */
const readsPerTurn = 8;
/** Output that somebody keeps producing after the last call must not go on for ever. */
const maxLastBytes = 1 << 20;

/**
 * Reads a pipe or a terminal by demand: while nobody asks, its writer waits. Unlike a stream of node:net it takes
 * terminals, and can be told to end although somebody still holds the other side.
 */
export class DescriptorReader {
  readonly #fd: number;
  readonly #waiter: ReadyWaiter;
  #reads = 0;
  #isClosed = false;
  #isLastCall = false;
  #left = maxLastBytes;

  /** Owns `fd`, which becomes non-blocking. */
  constructor(fd: number) {
    this.#fd = fd;
    this.#waiter = new ReadyWaiter(fd, { readable: true });
  }

  /** What there is, at most 64 KiB, one caller at a time; undefined at the end, which also closes the descriptor. */
  async read(): Promise<Buffer | undefined> {
    while (!this.#isClosed) {
      if (++this.#reads % readsPerTurn === 0) await nextTurn();
      if (this.#isClosed) break;
      try {
        const length = readSync(this.#fd, scratch);
        if (length > 0 && this.#mayRead(length)) return Buffer.from(scratch.subarray(0, length));
        this.close();
      } catch (error) {
        // EIO: nobody has the terminal open any more. Whatever else cannot be read has ended for us.
        if (!hasCode(error, 'EAGAIN') || this.#isLastCall) this.close();
        else await this.#waiter.ready();
      }
    }
    return undefined;
  }

  /** The end comes as soon as nothing is left to read, also when somebody still holds the other side. */
  endWhenEmpty(): void {
    this.#isLastCall = true;
    this.#waiter.wake();
  }

  #mayRead(length: number): boolean {
    if (!this.#isLastCall) return true;
    this.#left -= length;
    return this.#left >= 0;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#waiter.close();
    closeSync(this.#fd);
  }
}

/** Writes to a pipe or a terminal, waiting while it is full. */
export class DescriptorWriter {
  readonly #fd: number;
  readonly #waiter: ReadyWaiter;
  #isClosed = false;

  /** Owns `fd`, which becomes non-blocking. */
  constructor(fd: number) {
    this.#fd = fd;
    this.#waiter = new ReadyWaiter(fd, { writable: true });
  }

  /** One caller at a time. False when nobody reads any more. */
  async write(data: Uint8Array): Promise<boolean> {
    for (let done = 0; done < data.length;) {
      if (this.#isClosed) return false;
      try {
        done += writeSync(this.#fd, data, done);
      } catch (error) {
        if (!hasCode(error, 'EAGAIN')) return false;
        await this.#waiter.ready();
      }
    }
    return true;
  }

  /** For a pipe the same as the end. */
  end(): void {
    this.close();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#waiter.close();
    closeSync(this.#fd);
  }
}

/** Waits for a descriptor with a poll that exists only meanwhile, except that its first one makes it non-blocking. */
class ReadyWaiter {
  readonly #fd: number;
  readonly #events: { readonly readable?: boolean; readonly writable?: boolean };
  #watch: DescriptorWatch | undefined;
  #wake: (() => void) | undefined;

  constructor(fd: number, events: { readonly readable?: boolean; readonly writable?: boolean }) {
    this.#fd = fd;
    this.#events = events;
    watchDescriptor(fd, events, () => {}).close();
  }

  ready(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#watch?.close();
        this.#watch = undefined;
        this.#wake = undefined;
        resolve();
      };
      this.#watch = watchDescriptor(this.#fd, this.#events, () => this.#wake?.());
    });
  }

  wake(): void {
    this.#wake?.();
  }

  close(): void {
    this.#wake?.();
  }
}
