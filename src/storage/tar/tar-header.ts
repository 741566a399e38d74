import { isUtf8 } from 'node:buffer';

export const blockSize = 512;

/** Offsets and lengths of the fields of a header block (ustar, and GNU's where it differs). */
const fields = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 8],
  deviceMajor: [329, 8],
  deviceMinor: [337, 8],
  prefix: [345, 155],
  /** star's: the prefix is shorter there, and `tar\0` stands at the end. */
  starPrefix: [345, 131],
  starTrailer: [508, 4],
} as const;

export type TarType =
  | 'file'
  | 'link'
  | 'symlink'
  | 'char'
  | 'block'
  | 'directory'
  | 'fifo'
  | 'global'
  /** Headers for the next entry */
  | 'pax'
  | 'longName'
  | 'longLink'
  /** Any other: contiguous, sparse, multi-volume ... */
  | 'unknown';

/** One header block. Names are bytes: nothing says that they are UTF-8. */
export interface TarHeader {
  readonly type: TarType;
  /** The type byte as a character, for messages. */
  readonly typeFlag: string;
  readonly name: Buffer;
  readonly linkName: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
}

/** The archive is not one, or is damaged. */
export class TarError extends Error {}

const types: ReadonlyMap<string, TarType> = new Map([
  ['0', 'file'],
  ['\0', 'file'],
  ['1', 'link'],
  ['2', 'symlink'],
  ['3', 'char'],
  ['4', 'block'],
  ['5', 'directory'],
  ['6', 'fifo'],
  ['g', 'global'],
  ['x', 'pax'],
  ['L', 'longName'],
  ['K', 'longLink'],
]);

/** Reads a header block; undefined when it is all zero, which ends the archive. */
export function parseHeader(block: Buffer): TarHeader | undefined {
  const expected = checksumOf(block);
  if (expected === undefined) return undefined;
  const typeFlag = String.fromCharCode(block[fields.type[0]] ?? 0);
  const name = fullName(block);
  let type = types.get(typeFlag) ?? 'unknown';
  // Before ustar a folder was a file whose name ends in a slash.
  if (typeFlag === '\0' && name.at(-1) === slash) type = 'directory';
  return {
    type,
    typeFlag,
    name,
    linkName: text(block, fields.linkName),
    mode: number(block, fields.mode, 'mode'),
    uid: number(block, fields.uid, 'uid'),
    gid: number(block, fields.gid, 'gid'),
    size: sizeOf(number(block, fields.size, 'size')),
    mtimeNs: BigInt(number(block, fields.mtime, 'mtime')) * 1_000_000_000n,
    deviceMajor: type === 'char' || type === 'block' ? number(block, fields.deviceMajor, 'device') : 0,
    deviceMinor: type === 'char' || type === 'block' ? number(block, fields.deviceMinor, 'device') : 0,
  };
}

const slash = 0x2f;

export function sizeOf(size: number): number {
  if (size < 0 || !Number.isSafeInteger(size)) throw new TarError(`entry of ${size} bytes`);
  return size;
}

/** Old programs summed signed bytes; both sums are accepted. Undefined for a block of zeros. */
function checksumOf(block: Buffer): number | undefined {
  let unsigned = 0;
  let signed = 0;
  const [start, length] = fields.checksum;
  for (let at = 0; at < blockSize; at++) {
    const byte = at >= start && at < start + length ? 0x20 : (block[at] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  if (unsigned === length * 0x20 && block.every((byte) => byte === 0)) return undefined;
  const stored = number(block, fields.checksum, 'checksum');
  if (stored !== unsigned && stored !== signed) throw new TarError('header checksum is wrong');
  return stored;
}

function fullName(block: Buffer): Buffer {
  const name = text(block, fields.name);
  const magic = block.toString('latin1', fields.magic[0], fields.magic[0] + 6);
  // GNU headers (`ustar  `) keep times where ustar has the prefix.
  if (magic !== 'ustar\0') return name;
  const trailer = block.toString('latin1', fields.starTrailer[0], fields.starTrailer[0] + fields.starTrailer[1]);
  const prefix = text(block, trailer === 'tar\0' ? fields.starPrefix : fields.prefix);
  return prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name]);
}

/** A copy, as the block's memory is used again. */
function text(block: Buffer, [start, length]: readonly [number, number]): Buffer {
  const zero = block.indexOf(0, start);
  return Buffer.from(block.subarray(start, zero < 0 || zero > start + length ? start + length : zero));
}

/** Octal digits, or with the high bit of the first byte set a big-endian two's complement number. */
function number(block: Buffer, [start, length]: readonly [number, number], what: string): number {
  const first = block[start] ?? 0;
  if ((first & 0x80) !== 0) return binaryNumber(block, start, length, what);
  let value = 0;
  let at = start;
  const end = start + length;
  while (at < end && (block[at] === 0x20 || block[at] === 0)) at++;
  for (; at < end; at++) {
    const digit = (block[at] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  for (; at < end; at++) {
    if (block[at] !== 0x20 && block[at] !== 0) throw new TarError(`header field "${what}" is no number`);
  }
  return value;
}

function binaryNumber(block: Buffer, start: number, length: number, what: string): number {
  const isNegative = ((block[start] ?? 0) & 0x40) !== 0;
  let value = BigInt((block[start] ?? 0) & 0x7f);
  if (isNegative) value -= 0x80n;
  for (let at = start + 1; at < start + length; at++) value = (value << 8n) | BigInt(block[at] ?? 0);
  const result = Number(value);
  if (!Number.isSafeInteger(result)) throw new TarError(`header field "${what}" is out of range`);
  return result;
}

/** For messages: bytes that are no UTF-8 are shown as Latin-1. */
export function showName(name: Buffer): string {
  return isUtf8(name) ? name.toString() : name.toString('latin1');
}
