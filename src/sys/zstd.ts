import { CrioError } from '../base/errors.ts';
import type { Decoder } from './decoder.ts';
import { addressOf, bindProgram } from './libc.ts';

/** A pointer, as the binding gives it. */
type Context = object | bigint;

const c = {
  create: bindProgram<() => Context | null>('void *ZSTD_createDStream(void)'),
  decompress: bindProgram<(context: Context, output: Buffer, input: Buffer) => number | bigint>(
    'size_t ZSTD_decompressStream(void *zds, void *output, void *input)',
  ),
  free: bindProgram<(context: Context) => number>('size_t ZSTD_freeDStream(void *zds)'),
  isError: bindProgram<(code: number | bigint) => number>('uint ZSTD_isError(size_t code)'),
  errorName: bindProgram<(code: number | bigint) => string>('const char *ZSTD_getErrorName(size_t code)'),
};

/** ZSTD_inBuffer and ZSTD_outBuffer of zstd.h: a pointer, the size, the position. */
const positionAt = 16;

function setBuffer(struct: Buffer, data: Uint8Array): void {
  struct.writeBigUInt64LE(addressOf(data), 0);
  struct.writeBigUInt64LE(BigInt(data.length), 8);
  struct.writeBigUInt64LE(0n, positionAt);
}

/** Decompresses all frames of a stream; skippable ones give nothing. `output` may be shared. Like `Gunzip`, for workers. */
export class Unzstd implements Decoder {
  readonly #output: Buffer;
  readonly #in = Buffer.alloc(24);
  readonly #out = Buffer.alloc(24);
  #context: Context | null;
  #isBetweenFrames = true;

  constructor(output: Buffer) {
    this.#output = output;
    this.#context = c.create();
    if (this.#context === null) throw new CrioError('resource-exhausted', 'start zstd: no memory');
  }

  *decode(input: Uint8Array): Iterable<Buffer> {
    if (input.length === 0) return;
    setBuffer(this.#in, input);
    for (let isFull = true; isFull || this.#in.readBigUInt64LE(positionAt) < input.length;) {
      const length = this.#decompress();
      if (length > 0) yield this.#output.subarray(0, length);
      // A full output may not be all that this input gives.
      isFull = length === this.#output.length;
    }
  }

  finish(): Iterable<Buffer> {
    if (!this.#isBetweenFrames) throw new CrioError('invalid', 'decompress zstd: unexpected end of stream');
    return [];
  }

  [Symbol.dispose](): void {
    if (this.#context !== null) c.free(this.#context);
    this.#context = null;
  }

  /** Returns how many bytes of output there are. */
  #decompress(): number {
    if (this.#context === null) throw new CrioError('internal', 'decompress zstd: the stream is closed');
    setBuffer(this.#out, this.#output);
    const before = this.#in.readBigUInt64LE(positionAt);
    const result = c.decompress(this.#context, this.#out, this.#in);
    if (c.isError(result) !== 0) throw new CrioError('invalid', `decompress zstd: ${c.errorName(result)}`);
    const length = Number(this.#out.readBigUInt64LE(positionAt));
    // 0 after a frame's end; a call that had nothing to read or write then tells what the next one would begin with.
    if (length > 0 || this.#in.readBigUInt64LE(positionAt) > before) this.#isBetweenFrames = Number(result) === 0;
    return length;
  }
}
