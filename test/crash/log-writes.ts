import { closeSync, openSync, readSync, writeSync } from 'node:fs';

/**
 * Reads the log of every write to a disk, in the format of the kernel's dm-log-writes (Documentation/admin-guide/
 * device-mapper/log-writes.rst), which QEMU's blklogwrites driver writes: a superblock, then for each write an entry of one
 * sector and its data. Numbers are little-endian.
 */
export interface LoggedWrite {
  /** Byte on the disk */
  readonly offset: number;
  /** Bytes; 0 for a flush alone. */
  readonly length: number;
  /** Where in the log the data lies; undefined when the range was discarded. */
  readonly dataAt: number | undefined;
  /** What was written before is on the disk for good. */
  readonly isFlush: boolean;
  /** It is on the disk for good itself. */
  readonly isForced: boolean;
}

const magic = 0x6a736677736872n;
const flags = { flush: 1n, fua: 2n, discard: 4n };

export function readWriteLog(path: string): readonly LoggedWrite[] {
  const fd = openSync(path, 'r');
  try {
    const head = bytesAt(fd, 0, 32);
    if (head.readBigUInt64LE(0) !== magic || head.readBigUInt64LE(8) !== 1n)
      throw new Error(`read "${path}": it is no write log of version 1`);
    const entries = Number(head.readBigUInt64LE(16));
    const sector = head.readUInt32LE(24);
    const writes: LoggedWrite[] = [];
    let at = sector;
    for (let index = 0; index < entries; index++) {
      const entry = bytesAt(fd, at, 32);
      const length = Number(entry.readBigUInt64LE(8)) * sector;
      const bits = entry.readBigUInt64LE(16);
      const isDiscard = (bits & flags.discard) !== 0n;
      at += sector;
      writes.push({
        offset: Number(entry.readBigUInt64LE(0)) * sector,
        length,
        dataAt: isDiscard ? undefined : at,
        isFlush: (bits & flags.flush) !== 0n,
        isForced: (bits & flags.fua) !== 0n,
      });
      if (!isDiscard) at += length;
    }
    return writes;
  } finally {
    closeSync(fd);
  }
}

/** Writes onto a disk what the log says, in the order given. */
export function replay(log: string, disk: string, writes: readonly LoggedWrite[]): void {
  const from = openSync(log, 'r');
  const to = openSync(disk, 'r+');
  try {
    for (const { offset, length, dataAt } of writes) {
      if (length === 0) continue;
      const data = dataAt === undefined ? Buffer.alloc(length) : bytesAt(from, dataAt, length);
      for (let at = 0; at < length;) at += writeSync(to, data, at, length - at, offset + at);
    }
  } finally {
    closeSync(from);
    closeSync(to);
  }
}

/**
 * What is on the disk when the power goes after `end` writes: everything up to the last flush, and of the rest what
 * `isWritten` says, as a disk with a cache writes in any order.
 */
export function survivors(
  writes: readonly LoggedWrite[],
  end: number,
  isWritten: (write: LoggedWrite) => boolean,
): readonly LoggedWrite[] {
  const done = writes.slice(0, end);
  const lastFlush = done.findLastIndex(({ isFlush }) => isFlush);
  return done.filter((write, index) => index <= lastFlush || write.isForced || isWritten(write));
}

function bytesAt(fd: number, position: number, length: number): Buffer {
  const data = Buffer.alloc(length);
  let at = 0;
  while (at < length) {
    const read = readSync(fd, data, at, length - at, position + at);
    if (read === 0) throw new Error(`read a write log: it ends at byte ${position + at}`);
    at += read;
  }
  return data;
}
