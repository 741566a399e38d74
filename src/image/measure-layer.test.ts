import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf } from './digest.ts';
import { measureLayer } from './measure-layer.ts';

const plain = Buffer.from('plain text\n');
const skippable = Buffer.from('502a4d1804000000deadbeef', 'hex');

/** One byte at a time, as a slow network may bring them. */
async function* bytesOf(blob: Buffer): AsyncGenerator<Buffer> {
  for (const byte of blob) yield Buffer.of(byte);
}

const measure = (blob: Buffer, maxPlainSize = 1000) =>
  measureLayer(bytesOf(blob), { digest: digestOf(blob), maxPlainSize });

describe('measureLayer', () => {
  const blobs: readonly (readonly [string, Buffer, Buffer])[] = [
    ['nothing', plain, plain],
    ['gzip', gzipSync(plain), plain],
    ['gzip in two members', Buffer.concat([gzipSync(plain), gzipSync(plain)]), Buffer.concat([plain, plain])],
    ['zstd', zstdCompressSync(plain), plain],
    ['zstd after a skippable frame', Buffer.concat([skippable, zstdCompressSync(plain)]), plain],
    [
      'xz',
      Buffer.from(
        '/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAKcGxhaW4gdGV4dAoAACGQxyW/c8TaAAEjC8Ib/QkftvN9AQAAAAAEWVo=',
        'base64',
      ),
      plain,
    ],
    ['bzip2', Buffer.from('QlpoOTFBWSZTWfxQDSsAAAPRgAAQQAAiJURAIAAxADAgBtQJTgbx3i7kinChIfigGlY=', 'base64'), plain],
    ['less than a magic number', Buffer.from('abc'), Buffer.from('abc')],
    ['no byte at all', Buffer.alloc(0), Buffer.alloc(0)],
  ];
  for (const [name, blob, content] of blobs) {
    it(`knows size and diffID of a layer in ${name} that comes byte by byte`, async () => {
      const expected = { digest: digestOf(blob), size: blob.length, diffId: digestOf(content) };
      assert.deepEqual(await measure(blob), expected);
    });
  }

  it('refuses another digest, an archive that ends too early, and one that grows too large', async () => {
    const zeros = gzipSync(Buffer.alloc(10_000));
    await assert.rejects(measure(zeros), /more than 1000 bytes when decompressed/);
    await assert.rejects(measure(zeros.subarray(0, -9), 100_000), /unexpected end of file/);
    const options = { digest: digestOf(plain), maxPlainSize: 100_000 };
    await assert.rejects(measureLayer(bytesOf(zeros), options), /digest is sha256:\w+, expected/);
  });
});
