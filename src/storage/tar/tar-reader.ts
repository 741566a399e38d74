import { parsePax, parsePaxNumber, parsePaxTime } from './pax.ts';
import type { PaxRecords } from './pax.ts';
import { TarError, blockSize, parseHeader, sizeOf } from './tar-header.ts';
import type { TarHeader } from './tar-header.ts';

/** One entry with what PAX and GNU headers before it said. */
export interface TarEntry extends TarHeader {
  /** The name with one character per byte */
  readonly path: string;
  readonly atimeNs: bigint;
  /** `SCHILY.xattr.*`, without the prefix */
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** Bytes of content that follow; 0 for everything but files. */
  readonly payload: number;
}

/** Receives the archive piece by piece; the buffers are only valid during the call. */
export interface TarHandler {
  /** Bytes that are not content: headers, padding, what follows the end. */
  raw(bytes: Buffer): void;
  entry(entry: TarEntry): void;
  data(bytes: Buffer): void;
  /** The entry's content is complete. */
  entryEnd(): void;
}

/** A PAX or GNU header for the next entry; more would only fill memory. */
const maxExtension = 1024 * 1024;
const maxEntries = 4_000_000;
/**
 * Bytes that are no content, in all and for each entry: on disk they are compressed, so a bomb of headers or of what follows
 * the end could go on for long before the disk is full.
 */
const maxRaw = { bytes: 1024 ** 3, bytesPerEntry: 4096 } as const;

type State = 'header' | 'extension' | 'payload' | 'padding' | 'trailer';

/**
 * Reads a tar stream: v7, ustar, PAX, GNU long names and base-256 numbers, star. `push` takes pieces of any size; all
 * work is synchronous. Sparse files are refused: their content in the archive is not their content on disk.
 */
export class TarReader {
  readonly #handler: TarHandler;
  #state: State = 'header';
  /** A block of which not all bytes have come yet. */
  readonly #block = Buffer.alloc(blockSize);
  #blockLength = 0;
  /** Bytes left in the current state. */
  #left = 0;
  #padding = 0;
  #extension: { readonly header: TarHeader; readonly parts: Buffer[] } | undefined;
  #pax: PaxRecords = new Map();
  #longName: Buffer | undefined;
  #longLink: Buffer | undefined;
  #hasExtension = false;
  #zeroBlocks = 0;
  #entries = 0;
  #rawBytes = 0;

  constructor(handler: TarHandler) {
    this.#handler = handler;
  }

  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) at += this.#take(chunk, at);
  }

  /** The stream has ended. Missing end blocks are fine, an entry cut short is not. */
  end(): void {
    const isComplete =
      this.#state === 'trailer' || (this.#state === 'header' && this.#blockLength === 0 && !this.#hasExtension);
    // The padding of the last file may be missing, as some writers leave it out.
    if (!isComplete && this.#state !== 'padding') throw new TarError('unexpected end of archive');
  }

  /** Handles bytes from `at`; returns how many. */
  #take(chunk: Buffer, at: number): number {
    switch (this.#state) {
      case 'header':
        return this.#takeHeader(chunk, at);
      case 'extension':
        return this.#takeExtension(chunk, at);
      case 'payload':
        return this.#takePayload(chunk, at);
      case 'padding':
        return this.#takePadding(chunk, at);
      case 'trailer':
        this.#raw(chunk.subarray(at));
        return chunk.length - at;
    }
  }

  #takeHeader(chunk: Buffer, at: number): number {
    if (this.#blockLength === 0 && chunk.length - at >= blockSize) {
      this.#header(chunk.subarray(at, at + blockSize));
      return blockSize;
    }
    const taken = chunk.copy(this.#block, this.#blockLength, at, at + blockSize - this.#blockLength);
    this.#blockLength += taken;
    if (this.#blockLength === blockSize) {
      this.#blockLength = 0;
      this.#header(this.#block);
    }
    return taken;
  }

  #header(block: Buffer): void {
    const header = parseHeader(block);
    this.#raw(block);
    if (header === undefined) {
      this.#zeroBlocks += 1;
      if (this.#zeroBlocks === 2) this.#state = 'trailer';
      return;
    }
    if (this.#zeroBlocks > 0) throw new TarError('header after an end block');
    if (isExtension(header)) this.#startExtension(header);
    else this.#startEntry(header);
  }

  #startExtension(header: TarHeader): void {
    if (header.size > maxExtension) throw new TarError(`extended header of ${header.size} bytes`);
    this.#hasExtension = true;
    this.#extension = { header, parts: [] };
    this.#left = header.size;
    this.#padding = paddingOf(header.size);
    this.#state = 'extension';
    if (header.size === 0) this.#endExtension();
  }

  #takeExtension(chunk: Buffer, at: number): number {
    const piece = chunk.subarray(at, at + this.#left);
    this.#raw(piece);
    this.#extension?.parts.push(Buffer.from(piece));
    this.#left -= piece.length;
    if (this.#left === 0) this.#endExtension();
    return piece.length;
  }

  #endExtension(): void {
    const extension = this.#extension;
    if (extension === undefined) return;
    this.#extension = undefined;
    const data = Buffer.concat(extension.parts);
    const { header } = extension;
    if (header.type === 'pax') this.#pax = parsePax(data);
    else if (header.type === 'longName') this.#longName = cString(data);
    else if (header.type === 'longLink') this.#longLink = cString(data);
    else this.#globalHeader(header, data);
    this.#startPadding();
  }

  /** Its records are ignored, as other programs do for layers; it counts as an entry. */
  #globalHeader(header: TarHeader, data: Buffer): void {
    parsePax(data);
    this.#hasExtension = false;
    this.#emit({
      ...header,
      path: header.name.toString('latin1'),
      uid: 0,
      gid: 0,
      atimeNs: header.mtimeNs,
      xattrs: noXattrs,
      payload: 0,
    });
    this.#handler.entryEnd();
  }

  #startEntry(header: TarHeader): void {
    const entry = this.#merge(header);
    this.#emit(entry);
    this.#left = entry.payload;
    this.#padding = paddingOf(entry.payload);
    if (entry.payload > 0) this.#state = 'payload';
    else this.#handler.entryEnd();
  }

  #emit(entry: TarEntry): void {
    this.#entries += 1;
    if (this.#entries > maxEntries) throw new TarError(`more than ${maxEntries} entries`);
    this.#handler.entry(entry);
  }

  #merge(header: TarHeader): TarEntry {
    const pax = this.#pax;
    for (const key of pax.keys()) {
      if (key.startsWith('GNU.sparse.')) throw new TarError('unhandled tar header type "S" (sparse file)');
    }
    const value = (key: string) => {
      const found = pax.get(key);
      return found === undefined || found.length === 0 ? undefined : found;
    };
    const integer = (key: string, otherwise: number) => {
      const found = value(key);
      return found === undefined ? otherwise : parsePaxNumber(key, found);
    };
    const time = (key: string, otherwise: bigint) => {
      const found = value(key);
      return found === undefined ? otherwise : parsePaxTime(found);
    };
    const name = this.#longName ?? value('path') ?? header.name;
    const size = sizeOf(integer('size', header.size));
    const mtimeNs = time('mtime', header.mtimeNs);
    const type = header.typeFlag === '\0' && name.at(-1) === 0x2f ? 'directory' : header.type;
    const entry: TarEntry = {
      ...header,
      type,
      name,
      path: name.toString('latin1'),
      linkName: this.#longLink ?? value('linkpath') ?? header.linkName,
      uid: integer('uid', header.uid),
      gid: integer('gid', header.gid),
      size,
      mtimeNs,
      atimeNs: time('atime', mtimeNs),
      xattrs: xattrsOf(pax),
      payload: hasPayload(type) ? size : 0,
    };
    this.#pax = new Map();
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#hasExtension = false;
    return entry;
  }

  #takePayload(chunk: Buffer, at: number): number {
    const piece = chunk.subarray(at, at + this.#left);
    this.#handler.data(piece);
    this.#left -= piece.length;
    if (this.#left === 0) {
      this.#handler.entryEnd();
      this.#startPadding();
    }
    return piece.length;
  }

  #startPadding(): void {
    this.#left = this.#padding;
    this.#state = this.#left > 0 ? 'padding' : 'header';
  }

  #raw(bytes: Buffer): void {
    this.#rawBytes += bytes.length;
    if (this.#rawBytes > maxRaw.bytes + maxRaw.bytesPerEntry * this.#entries)
      throw new TarError(`${this.#rawBytes} bytes of headers and padding, for ${this.#entries} entries`);
    this.#handler.raw(bytes);
  }

  #takePadding(chunk: Buffer, at: number): number {
    const piece = chunk.subarray(at, at + this.#left);
    this.#raw(piece);
    this.#left -= piece.length;
    if (this.#left === 0) this.#state = 'header';
    return piece.length;
  }
}

const noXattrs: ReadonlyMap<string, Buffer> = new Map();
const xattrPrefix = 'SCHILY.xattr.';

function xattrsOf(pax: PaxRecords): ReadonlyMap<string, Buffer> {
  let xattrs: Map<string, Buffer> | undefined;
  for (const [key, value] of pax) {
    if (key.startsWith(xattrPrefix)) (xattrs ??= new Map()).set(key.slice(xattrPrefix.length), value);
  }
  return xattrs ?? noXattrs;
}

function isExtension(header: TarHeader): boolean {
  return header.type === 'pax' || header.type === 'global' || header.type === 'longName' || header.type === 'longLink';
}

/** Links, devices and folders have no content, whatever their size field says. */
function hasPayload(type: TarHeader['type']): boolean {
  return type === 'file' || type === 'unknown';
}

function paddingOf(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize;
}

function cString(data: Buffer): Buffer {
  const zero = data.indexOf(0);
  return zero < 0 ? data : data.subarray(0, zero);
}
