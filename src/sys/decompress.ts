import { openBzip2Decoder, openXzDecoder } from './decoder.ts';
import type { Decoder } from './decoder.ts';
import { Gunzip } from './zlib.ts';
import { Unzstd } from './zstd.ts';

export type Compression = 'none' | 'bzip2' | 'gzip' | 'xz' | 'zstd';

/** Bytes that tell the compression; fewer are enough at the end of a stream. */
export const magicLength = 6;

/** Told by the first bytes; what is no known compression is taken for a plain archive. */
export function detectCompression(start: Uint8Array): Compression {
  if (startsWith(start, [0x1f, 0x8b, 0x08])) return 'gzip';
  // A zstd frame, or a skippable frame before one.
  if (startsWith(start, [0x28, 0xb5, 0x2f, 0xfd])) return 'zstd';
  if (startsWith(start.subarray(1), [0x2a, 0x4d, 0x18]) && ((start[0] ?? 0) & 0xf0) === 0x50) return 'zstd';
  if (startsWith(start, [0x42, 0x5a, 0x68])) return 'bzip2';
  if (startsWith(start, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])) return 'xz';
  return 'none';
}

function startsWith(data: Uint8Array, magic: readonly number[]): boolean {
  return data.length >= magic.length && magic.every((byte, at) => data[at] === byte);
}

/** For all members, frames or streams one after another; undefined for a plain archive. `output` may be used by several. */
export function createDecompressor(compression: Compression, output: Buffer): Decoder | undefined {
  switch (compression) {
    case 'none':
      return undefined;
    case 'gzip':
      return new Gunzip(output);
    case 'zstd':
      return new Unzstd(output);
    case 'bzip2':
      return openBzip2Decoder();
    case 'xz':
      return openXzDecoder();
  }
}
