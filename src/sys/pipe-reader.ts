import { closeSync, readSync } from 'node:fs';
import { hasCode } from '../base/errors.ts';
import { setNonblocking } from './descriptor.ts';
import { watchDescriptor } from './libc.ts';
import type { DescriptorWatch } from './libc.ts';
import type { ChildHandle } from './spawn.ts';

/** As much as a pipe holds, pipe(7): one read empties it. */
const chunkSize = 65536;
/** Output that a living grandchild keeps producing during `drain` must not hold the loop. */
const maxDrainBytes = 1 << 20;

/** Shared by all readers: a chunk is copied before the next read. */
const scratch = Buffer.allocUnsafe(chunkSize);

/**
 * Reads a pipe from the event loop. Unlike a stream it can be emptied synchronously when the writer has ended, without
 * waiting for an end of file that a grandchild may keep away.
 */
export class PipeReader {
  /** Resolves at the end of the stream, or when closed. */
  readonly ended: Promise<void>;
  readonly #fd: number;
  readonly #onData: (chunk: Buffer) => void;
  #watch: DescriptorWatch | undefined;
  readonly #end: () => void;
  #closed = false;

  /**
   * Owns `fd`. `onData` must copy what it keeps: the chunk is only valid during the call. Nothing is read before `start`
   * or `drain`.
   */
  constructor(fd: number, onData: (chunk: Buffer) => void) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
    this.#fd = fd;
    this.#onData = onData;
    setNonblocking(fd);
  }

  start(): void {
    if (this.#closed || this.#watch !== undefined) return;
    this.#watch = watchDescriptor(this.#fd, { readable: true }, () => this.#read());
  }

  /** Reads what is in the pipe now, and closes it. */
  drain(): void {
    for (let done = 0; !this.#closed && done < maxDrainBytes;) {
      const length = this.#read();
      if (length === 0) break;
      done += length;
    }
    this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    closeSync(this.#fd);
    this.#end();
  }

  /** One read; 0 when there is nothing (closes at the end of the stream). */
  #read(): number {
    try {
      const length = readSync(this.#fd, scratch);
      if (length === 0) this.close();
      else this.#onData(scratch.subarray(0, length));
      return length;
    } catch (error) {
      // A pipe that cannot be read has ended for us.
      if (!hasCode(error, 'EAGAIN')) this.close();
      return 0;
    }
  }
}

/** Output of a child as it comes. */
export interface PipeCollector {
  /** From here on it is read; until then the child can write as much as a pipe holds. */
  start(): void;
  /** Reads the rest that is there now, closes the pipe, and hands over everything that was kept. */
  drain(): Buffer;
}

/** Collects a child's 'pipe'; `take` says how many of so many bytes are wanted, the rest is read and dropped. */
export function collectPipe(
  child: ChildHandle,
  index: number,
  take: (length: number) => number,
): PipeCollector | undefined {
  const fd = child.takePipe(index);
  if (fd === undefined) return undefined;
  const chunks: Buffer[] = [];
  const reader = new PipeReader(fd, (chunk) => {
    const wanted = take(chunk.length);
    if (wanted > 0) chunks.push(Buffer.from(chunk.subarray(0, wanted)));
  });
  return {
    start: () => reader.start(),
    drain() {
      reader.drain();
      return Buffer.concat(chunks.splice(0));
    },
  };
}

/** A counter that gives out `maxBytes` in all; shared by several pipes it bounds their sum. */
export function boundedTake(maxBytes: number): (length: number) => number {
  let left = maxBytes;
  return (length) => {
    const taken = Math.min(length, left);
    left -= taken;
    return taken;
  };
}
