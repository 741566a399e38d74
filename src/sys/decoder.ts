import { CrioError, messageOf } from '../base/errors.ts';
import { addressOf, bindFrom } from './libc.ts';

/** A streaming decoder of a system library. Each chunk that it gives is only valid until the next one is asked for. */
export interface Decoder extends Disposable {
  /** What this input decodes to, piece by piece: a few bytes may become gigabytes. */
  decode(input: Uint8Array): Iterable<Buffer>;
  /** The rest, after the last input. Throws when the stream is not complete. */
  finish(): Iterable<Buffer>;
}

const outputSize = 256 * 1024;
/** Above what `xz -9` needs, 65 MiB; a stream that asks for more is refused. bytes */
const xzMemory = 256 * 1024 * 1024;

/** xz(1), also several streams one after another. lzma/base.h, lzma/container.h of liblzma */
export function openXzDecoder(): Decoder {
  return new XzDecoder();
}

/** bzip2(1), also several streams one after another. bzlib.h of libbz2 */
export function openBzip2Decoder(): Decoder {
  return new Bzip2Decoder();
}

/** Debian's dpkg needs both libraries, so that they are there; other systems have the second name of libbz2. */
function load<T>(format: string, names: readonly string[], bind: (name: string) => T): T {
  let last: unknown;
  for (const name of names) {
    try {
      return bind(name);
    } catch (error) {
      last = error;
    }
  }
  throw new CrioError('unimplemented', `${format} layers need ${names.join(' or ')}: ${messageOf(last)}`);
}

type Stream = Uint8Array;

interface Lzma {
  readonly open: (stream: Stream, memoryLimit: bigint, flags: number) => number;
  readonly code: (stream: Stream, action: number) => number;
  readonly end: (stream: Stream) => void;
}

let lzma: Lzma | undefined;

function loadLzma(): Lzma {
  return (lzma ??= load('xz', ['liblzma.so.5'], (name) => ({
    open: bindFrom(name, 'uint32_t lzma_stream_decoder(uint8_t *stream, uint64_t memlimit, uint32_t flags)'),
    code: bindFrom(name, 'uint32_t lzma_code(uint8_t *stream, uint32_t action)'),
    end: bindFrom(name, 'void lzma_end(uint8_t *stream)'),
  })));
}

const lzmaConcatenated = 8;
const lzmaRun = 0;
const lzmaFinish = 3;
const lzmaStreamEnd = 1;
const lzmaErrors: ReadonlyMap<number, string> = new Map([
  [5, 'out of memory'],
  [6, `it needs more than ${xzMemory} bytes of memory`],
  [7, 'not in xz format'],
  [8, 'unsupported options'],
  [9, 'data is corrupt'],
  [10, 'unexpected end of stream'],
]);

/** Offsets in `lzma_stream`, 136 bytes. */
const lzmaFields = { nextIn: 0, availIn: 8, nextOut: 24, availOut: 32 } as const;

class XzDecoder implements Decoder {
  readonly #library = loadLzma();
  readonly #stream = Buffer.alloc(4096);
  readonly #output = Buffer.alloc(outputSize);
  #isDone = false;

  constructor() {
    const result = this.#library.open(this.#stream, BigInt(xzMemory), lzmaConcatenated);
    if (result !== 0) throw xzError(result);
  }

  *decode(input: Uint8Array): Iterable<Buffer> {
    yield* this.#code(input, lzmaRun);
  }

  *finish(): Iterable<Buffer> {
    yield* this.#code(new Uint8Array(0), lzmaFinish);
    if (!this.#isDone) throw xzError(10);
  }

  [Symbol.dispose](): void {
    this.#library.end(this.#stream);
  }

  *#code(input: Uint8Array, action: number): Iterable<Buffer> {
    const stream = this.#stream;
    stream.writeBigUInt64LE(input.length === 0 ? 0n : addressOf(input), lzmaFields.nextIn);
    stream.writeBigUInt64LE(BigInt(input.length), lzmaFields.availIn);
    for (;;) {
      stream.writeBigUInt64LE(addressOf(this.#output), lzmaFields.nextOut);
      stream.writeBigUInt64LE(BigInt(outputSize), lzmaFields.availOut);
      const result = this.#library.code(stream, action);
      const left = Number(stream.readBigUInt64LE(lzmaFields.availOut));
      if (left < outputSize) yield this.#output.subarray(0, outputSize - left);
      this.#isDone = result === lzmaStreamEnd;
      if (this.#isDone) return;
      const isFed = stream.readBigUInt64LE(lzmaFields.availIn) === 0n && left > 0;
      // No progress without input is no error while more may come.
      if (isFed && action === lzmaRun && (result === 0 || result === 10)) return;
      if (result !== 0) throw xzError(result);
    }
  }
}

function xzError(code: number): CrioError {
  return new CrioError('invalid', `decompress xz: ${lzmaErrors.get(code) ?? `error ${code}`}`);
}

interface Bzip2 {
  readonly open: (stream: Stream, verbosity: number, small: number) => number;
  readonly code: (stream: Stream) => number;
  readonly end: (stream: Stream) => number;
}

let bzip2: Bzip2 | undefined;

function loadBzip2(): Bzip2 {
  return (bzip2 ??= load('bzip2', ['libbz2.so.1.0', 'libbz2.so.1'], (name) => ({
    open: bindFrom(name, 'int BZ2_bzDecompressInit(uint8_t *stream, int verbosity, int small)'),
    code: bindFrom(name, 'int BZ2_bzDecompress(uint8_t *stream)'),
    end: bindFrom(name, 'int BZ2_bzDecompressEnd(uint8_t *stream)'),
  })));
}

const bzip2StreamEnd = 4;
const bzip2Errors: ReadonlyMap<number, string> = new Map([
  [-3, 'out of memory'],
  [-4, 'data is corrupt'],
  [-5, 'not in bzip2 format'],
]);
/** Offsets in `bz_stream`, 80 bytes. */
const bzip2Fields = { nextIn: 0, availIn: 8, nextOut: 24, availOut: 32 } as const;

class Bzip2Decoder implements Decoder {
  readonly #library = loadBzip2();
  readonly #stream = Buffer.alloc(4096);
  readonly #output = Buffer.alloc(outputSize);
  /** Between two streams, or after the last one. */
  #isBetween = true;
  #isEmpty = true;

  *decode(input: Uint8Array): Iterable<Buffer> {
    let left = input.length;
    let room = 1;
    // It may hold back output that had no room, after the last input.
    while (left > 0 || (room === 0 && !this.#isBetween)) {
      this.#begin();
      const stream = this.#stream;
      stream.writeBigUInt64LE(left === 0 ? 0n : addressOf(input.subarray(input.length - left)), bzip2Fields.nextIn);
      stream.writeUInt32LE(left, bzip2Fields.availIn);
      stream.writeBigUInt64LE(addressOf(this.#output), bzip2Fields.nextOut);
      stream.writeUInt32LE(outputSize, bzip2Fields.availOut);
      const result = this.#library.code(stream);
      if (result < 0)
        throw new CrioError('invalid', `decompress bzip2: ${bzip2Errors.get(result) ?? `error ${result}`}`);
      left = stream.readUInt32LE(bzip2Fields.availIn);
      room = stream.readUInt32LE(bzip2Fields.availOut);
      if (room < outputSize) yield this.#output.subarray(0, outputSize - room);
      if (result === bzip2StreamEnd) this.#finishStream();
    }
  }

  finish(): Iterable<Buffer> {
    if (this.#isEmpty || !this.#isBetween) throw new CrioError('invalid', 'decompress bzip2: unexpected end of stream');
    // Everything was given out with its input.
    return [];
  }

  [Symbol.dispose](): void {
    this.#finishStream();
  }

  #begin(): void {
    if (!this.#isBetween) return;
    this.#stream.fill(0);
    const result = this.#library.open(this.#stream, 0, 0);
    if (result !== 0) throw new CrioError('internal', `open bzip2 decoder: error ${result}`);
    this.#isBetween = false;
    this.#isEmpty = false;
  }

  #finishStream(): void {
    if (!this.#isBetween) this.#library.end(this.#stream);
    this.#isBetween = true;
  }
}
