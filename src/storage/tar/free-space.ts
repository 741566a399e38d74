import { statfsSync } from 'node:fs';
import { CrioError } from '../../base/errors.ts';

const MiB = 1024 * 1024;
/** Content between two looks at the file system. */
const interval = 16 * MiB;
const mostReserved = 1024 * MiB;

/**
 * Ends an unpacking before it takes the last space of the file system. What a blob of a few megabytes grows to is known
 * when it is unpacked, not before: a bomb must not take the room that kubelet and the containers need meanwhile.
 */
export class FreeSpaceGuard {
  readonly #folder: string;
  #untilNext = interval;
  #total = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Content that is about to be written, bytes. */
  wrote(bytes: number): void {
    this.#total += bytes;
    this.#untilNext -= bytes;
    if (this.#untilNext > 0) return;
    this.#untilNext = interval;
    const { bavail, blocks, bsize } = statfsSync(this.#folder);
    const reserved = reservedBytes(blocks * bsize);
    if (bavail * bsize >= reserved) return;
    throw new CrioError(
      'resource-exhausted',
      `stop unpacking after ${mib(this.#total)}: ENOSPC is near, less than ${mib(reserved)} of ${mib(blocks * bsize)} are free`,
    );
  }
}

/** A twentieth of the file system, at most 1 GiB: below what kubelet evicts pods at. */
export function reservedBytes(fileSystemBytes: number): number {
  return Math.min(mostReserved, Math.floor(fileSystemBytes / 20));
}

function mib(bytes: number): string {
  return `${Math.round(bytes / MiB)} MiB`;
}
