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
    if (this.#bytesUntilNext > 0) return;
    const { bavail, blocks, bsize } = statfsSync(this.#folder);
    const reserved = reservedBytes(blocks * bsize);
    const left = bavail * bsize - reserved;
    this.#bytesUntilNext = untilNext(left, bytes);
    if (left >= 0) return;
    throw new CrioError(
      'resource-exhausted',
      `stop ${this.#verb} after ${mib(this.#bytes)}: ENOSPC is near, less than ${mib(reserved)} of ${mib(blocks * bsize)} are free`,
    );
  }

  /** One more file is about to be made. */
  placed(): void {
    this.#files += 1;
    this.#filesUntilNext -= 1;
    if (this.#filesUntilNext > 0) return;
    const { ffree, files: all } = statfsSync(this.#folder);
    const reserved = reservedFiles(all);
    const left = all === 0 ? Number.POSITIVE_INFINITY : ffree - reserved;
    this.#filesUntilNext = untilNext(left, files);
    if (left >= 0) return;
    throw new CrioError(
      'resource-exhausted',
      `stop ${this.#verb} after ${this.#files} files: ENOSPC is near, fewer than ${reserved} of ${all} inodes are free`,
    );
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
