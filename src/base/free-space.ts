import { statfsSync } from 'node:fs';
import { CrioError } from './errors.ts';

const MiB = 1024 * 1024;
const mostReserved = 1024 * MiB;

/** How much is written between two looks at the file system: less when little is left, as others write, too. */
interface Interval {
  /** Before the first look: what is small may have the last space. */
  readonly first: number;
  readonly least: number;
  readonly most: number;
}

const bytes: Interval = { first: 16 * MiB, least: MiB, most: 16 * MiB };
const files: Interval = { first: 1024, least: 64, most: 8192 };
/** What a folder, or a file of a few bytes, takes of a disk. */
const blockBytes = 4096;

/**
 * Ends a writing before it takes the last space or the last inodes of the file system. What a blob of a few megabytes grows
 * to is known when it is unpacked, not before: a bomb must not take the room that kubelet and the containers need
 * meanwhile.
 */
export class FreeSpaceGuard {
  readonly #folder: string;
  readonly #verb: 'unpacking' | 'writing';
  #bytesUntilNext = bytes.first;
  #bytes = 0;
  #filesUntilNext = files.first;
  #files = 0;

  constructor(folder: string, verb: 'unpacking' | 'writing') {
    this.#folder = folder;
    this.#verb = verb;
  }

  /** Content that is about to be written, bytes. */
  wrote(count: number): void {
    this.#bytes += count;
    this.#bytesUntilNext -= count;
    if (this.#bytesUntilNext <= 0) this.#look();
  }

  /** So many more files and folders are made: they take blocks as well as inodes. */
  placed(count = 1): void {
    this.#files += count;
    this.#filesUntilNext -= count;
    this.#bytesUntilNext -= count * blockBytes;
    if (this.#filesUntilNext <= 0 || this.#bytesUntilNext <= 0) this.#look();
  }

  #look(): void {
    const { bavail, blocks, bsize, ffree, files: all } = statfsSync(this.#folder);
    const bytesKept = reservedBytes(blocks * bsize);
    const bytesLeft = bavail * bsize - bytesKept;
    if (bytesLeft < 0) throw this.#near(this.#most(), `less than ${mib(bytesKept)} of ${mib(blocks * bsize)} are free`);
    const filesKept = reservedFiles(all);
    const filesLeft = all === 0 ? Number.POSITIVE_INFINITY : ffree - filesKept;
    if (filesLeft < 0) throw this.#near(`${this.#files} files`, `fewer than ${filesKept} of ${all} inodes are free`);
    this.#bytesUntilNext = untilNext(bytesLeft, bytes);
    this.#filesUntilNext = untilNext(filesLeft, files);
  }

  /** What has taken the most of it. */
  #most(): string {
    return this.#bytes < this.#files * blockBytes ? `${this.#files} files` : mib(this.#bytes);
  }

  #near(written: string, why: string): CrioError {
    return new CrioError('resource-exhausted', `stop ${this.#verb} after ${written}: ENOSPC is near, ${why}`);
  }
}

function untilNext(left: number, { least, most }: Interval): number {
  return Math.max(least, Math.min(most, Math.floor(left / 8)));
}

/** A twentieth of the file system, at most 1 GiB: below what kubelet evicts pods at. */
export function reservedBytes(fileSystemBytes: number): number {
  return Math.min(mostReserved, Math.floor(fileSystemBytes / 20));
}

/** A twentieth, too, which is what kubelet evicts pods at. File systems that make inodes as they need them have 0 in all. */
function reservedFiles(fileSystemFiles: number): number {
  return Math.floor(fileSystemFiles / 20);
}

function mib(bytes: number): string {
  return `${Math.round(bytes / MiB)} MiB`;
}
