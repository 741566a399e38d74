import { CrioError } from '../base/errors.ts';
import type { Decoder } from './decoder.ts';
import { addressOf, bindProgram } from './libc.ts';

/**
 * zlib as Node has it, called directly: into memory that is used again, and without a trip to another thread for every
 * piece. Only for workers, as a call takes as long as its input is large.
 */

const c = {
  inflateInit2: bindProgram<(stream: Buffer, windowBits: number, version: string, size: number) => number>(
    'int inflateInit2_(void *strm, int windowBits, const char *version, int stream_size)',
  ),
  inflate: bindProgram<(stream: Buffer, flush: number) => number>('int inflate(void *strm, int flush)'),
  inflateReset: bindProgram<(stream: Buffer) => number>('int inflateReset(void *strm)'),
  inflateEnd: bindProgram<(stream: Buffer) => number>('int inflateEnd(void *strm)'),
  deflateInit2: bindProgram<
    (
      stream: Buffer,
      level: number,
      method: number,
      windowBits: number,
      memLevel: number,
      strategy: number,
      version: string,
      size: number,
    ) => number
  >(
    'int deflateInit2_(void *strm, int level, int method, int windowBits, int memLevel, int strategy, const char *version, int stream_size)',
  ),
  deflate: bindProgram<(stream: Buffer, flush: number) => number>('int deflate(void *strm, int flush)'),
  deflateEnd: bindProgram<(stream: Buffer) => number>('int deflateEnd(void *strm)'),
};

// zlib.h
const Z_NO_FLUSH = 0;
const Z_FINISH = 4;
const Z_OK = 0;
const Z_STREAM_END = 1;
const Z_NEED_DICT = 2;
const Z_STREAM_ERROR = -2;
const Z_DATA_ERROR = -3;
const Z_MEM_ERROR = -4;
const Z_BUF_ERROR = -5;
const Z_DEFLATED = 8;
const Z_DEFAULT_STRATEGY = 0;
/** Only its first digit counts. */
const version = '1';
/** The largest window, with a gzip header and trailer. */
const gzipWindow = 15 + 16;

/** `z_stream` of zlib.h where pointers and longs have 64 bits. */
const streamSize = 112;
const nextIn = 0;
const availableIn = 8;
const nextOut = 24;
const availableOut = 32;

const codes: ReadonlyMap<number, string> = new Map([
  [Z_NEED_DICT, 'it needs a dictionary'],
  [Z_STREAM_ERROR, 'wrong use of zlib'],
  [Z_DATA_ERROR, 'data is corrupt'],
  [Z_MEM_ERROR, 'out of memory'],
  [Z_BUF_ERROR, 'no progress'],
]);

function zlibError(what: string, result: number): CrioError {
  return new CrioError('invalid', `${what}: ${codes.get(result) ?? `zlib ${result}`}`);
}

/** gunzip of all members of a stream. Zeros after a member are padding, and end the stream. `output` may be shared. */
export class Gunzip implements Decoder {
  readonly #stream = Buffer.alloc(streamSize);
  readonly #output: Buffer;
  #state: 'open' | 'between' | 'padding' | 'closed' = 'open';

  constructor(output: Buffer) {
    this.#output = output;
    const result = c.inflateInit2(this.#stream, gzipWindow, version, streamSize);
    if (result !== Z_OK) throw zlibError('start gunzip', result);
  }

  *decode(input: Uint8Array): Iterable<Buffer> {
    if (input.length === 0) return;
    this.#stream.writeBigUInt64LE(addressOf(input), nextIn);
    this.#stream.writeUInt32LE(input.length, availableIn);
    for (let isFull = true; isFull || this.#stream.readUInt32LE(availableIn) > 0;) {
      if (this.#state === 'between' && !this.#nextMember(input)) return;
      if (this.#state !== 'open') return;
      const length = this.#inflate();
      if (length > 0) yield this.#output.subarray(0, length);
      // A full output may not be all that this input gives.
      isFull = length === this.#output.length;
    }
  }

  finish(): Iterable<Buffer> {
    if (this.#state === 'open') throw new CrioError('invalid', 'decompress gzip: unexpected end of file');
    return [];
  }

  [Symbol.dispose](): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    c.inflateEnd(this.#stream);
  }

  /** Returns how many bytes of output there are. */
  #inflate(): number {
    const output = this.#output;
    this.#stream.writeBigUInt64LE(addressOf(output), nextOut);
    this.#stream.writeUInt32LE(output.length, availableOut);
    const result = c.inflate(this.#stream, Z_NO_FLUSH);
    if (result === Z_STREAM_END) this.#state = 'between';
    // No progress was possible: all input is used.
    else if (result !== Z_OK && result !== Z_BUF_ERROR) throw zlibError('decompress gzip', result);
    return output.length - this.#stream.readUInt32LE(availableOut);
  }

  /** Begins the member that follows, if there is input and it is one. */
  #nextMember(input: Uint8Array): boolean {
    const left = this.#stream.readUInt32LE(availableIn);
    if (left === 0) return false;
    if (input[input.length - left] === 0) {
      this.#state = 'padding';
      return false;
    }
    const result = c.inflateReset(this.#stream);
    if (result !== Z_OK) throw zlibError('decompress gzip', result);
    this.#state = 'open';
    return true;
  }
}

/** gzip, one member. Pieces are only valid during the call that takes them. `output` is memory for what comes out of one call, and may be shared. */
export class Gzip implements Disposable {
  readonly #stream = Buffer.alloc(streamSize);
  readonly #output: Buffer;
  #isOpen = true;

  constructor(level: number, output: Buffer) {
    this.#output = output;
    const defaultMemory = 8;
    const result = c.deflateInit2(
      this.#stream,
      level,
      Z_DEFLATED,
      gzipWindow,
      defaultMemory,
      Z_DEFAULT_STRATEGY,
      version,
      streamSize,
    );
    if (result !== Z_OK) throw zlibError('start gzip', result);
  }

  push(input: Uint8Array, take: (piece: Buffer) => void): void {
    if (input.length > 0) this.#deflate(input, Z_NO_FLUSH, take);
  }

  end(take: (piece: Buffer) => void): void {
    this.#deflate(new Uint8Array(0), Z_FINISH, take);
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    c.deflateEnd(this.#stream);
  }

  #deflate(input: Uint8Array, flush: number, take: (piece: Buffer) => void): void {
    const output = this.#output;
    this.#stream.writeBigUInt64LE(input.length === 0 ? 0n : addressOf(input), nextIn);
    this.#stream.writeUInt32LE(input.length, availableIn);
    for (let isFull = true; isFull;) {
      this.#stream.writeBigUInt64LE(addressOf(output), nextOut);
      this.#stream.writeUInt32LE(output.length, availableOut);
      const result = c.deflate(this.#stream, flush);
      if (result !== Z_OK && result !== Z_STREAM_END && result !== Z_BUF_ERROR) throw zlibError('gzip', result);
      const left = this.#stream.readUInt32LE(availableOut);
      if (left < output.length) take(output.subarray(0, output.length - left));
      isFull = left === 0;
    }
  }
}
