import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import type { Decoder } from '../sys/decoder.ts';
import type { MeasuredLayer } from './schema1.ts';

export interface MeasureOptions {
  readonly digest: Digest;
  /** Most bytes that it may decompress to. */
  readonly maxPlainSize: number;
}

const pieceSize = 256 * 1024;

/**
 * Reads a layer blob to its end and says what a schema 1 manifest does not: its size and its diffID. Throws `invalid` when it
 * has another digest or cannot be decompressed. Others get their turn after each piece.
 */
export async function measureLayer(
  blob: AsyncIterable<Uint8Array>,
  { digest, maxPlainSize }: MeasureOptions,
): Promise<MeasuredLayer> {
  // Only who meets such an image needs it.
  const { createDecompressor, detectCompression, magicLength } = await import('../sys/decompress.ts');
  using stack = new DisposableStack();
  const algorithm = digest.slice(0, digest.indexOf(':'));
  const compressed = createHash(algorithm);
  const plain = createHash('sha256');
  let size = 0;
  let plainSize = 0;
  let decoder: Decoder | undefined;
  const take = async (pieces: Iterable<Uint8Array>): Promise<void> => {
    for (const piece of pieces) {
      plainSize += piece.length;
      if (plainSize > maxPlainSize)
        throw new CrioError('resource-exhausted', `layer ${digest}: more than ${maxPlainSize} bytes when decompressed`);
      plain.update(piece);
      await nextTurn();
    }
  };
  const feed = (data: Uint8Array) => take(decoder === undefined ? [data] : decoder.decode(data));
  // A network may bring them one by one.
  let start: Buffer | undefined = Buffer.alloc(0);
  const begin = async (data: Buffer): Promise<void> => {
    start = undefined;
    decoder = createDecompressor(detectCompression(data), Buffer.alloc(pieceSize));
    if (decoder !== undefined) stack.use(decoder);
    await feed(data);
  };
  for await (const chunk of blob) {
    size += chunk.length;
    compressed.update(chunk);
    if (start === undefined) {
      await feed(chunk);
    } else {
      start = Buffer.concat([start, chunk]);
      if (start.length >= magicLength) await begin(start);
    }
  }
  if (start !== undefined) await begin(start);
  await take(decoder?.finish() ?? []);
  const actual = `${algorithm}:${compressed.digest('hex')}`;
  if (actual !== digest) throw new CrioError('invalid', `verify layer: digest is ${actual}, expected ${digest}`);
  return { digest, size, diffId: `sha256:${plain.digest('hex')}` };
}
