import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import type { Decoder } from './decoder.ts';
import { Gunzip, Gzip } from './zlib.ts';
import { Unzstd } from './zstd.ts';

/** Smaller than what most calls give, so that they need several. */
const output = Buffer.alloc(100);
const content = Buffer.from('one line of text, and then again '.repeat(200));

function decodeAll(decoder: Decoder, input: Uint8Array, pieceSize: number): Buffer {
  using _decoder = decoder;
  const parts: Buffer[] = [];
  for (let at = 0; at < input.length; at += pieceSize) {
    for (const part of decoder.decode(input.subarray(at, at + pieceSize))) parts.push(Buffer.from(part));
  }
  for (const part of decoder.finish()) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

const forms = {
  gzip: { create: () => new Gunzip(output), compress: gzipSync },
  zstd: { create: () => new Unzstd(output), compress: zstdCompressSync },
};

for (const [name, { create, compress }] of Object.entries(forms)) {
  test(`${name}: streams one after another come out whole, in pieces of any size`, () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 1000 }), { minLength: 1 }),
        fc.integer({ min: 1 }),
        (all, size) => {
          const input = Buffer.concat(all.map((one) => compress(one)));
          assert.deepEqual(decodeAll(create(), input, size), Buffer.concat(all));
        },
      ),
      { numRuns: 50 },
    );
  });

  test(`${name}: a stream that is cut, or followed by something else, is an error`, () => {
    const input = compress(content);
    for (let length = 1; length < input.length; length += 7)
      assert.throws(() => decodeAll(create(), input.subarray(0, length), 10), { kind: 'invalid' }, `${length} bytes`);
    assert.throws(() => decodeAll(create(), Buffer.concat([input, Buffer.from('no stream')]), 1000), {
      kind: 'invalid',
    });
  });
}

test('gzip: damage inside is an error', () => {
  const damaged = gzipSync(content).fill(0xff, 12, 30);
  assert.throws(() => decodeAll(new Gunzip(output), damaged, 10), { kind: 'invalid' });
});

test('gzip: zeros behind a member are padding, in whatever pieces', () => {
  const input = Buffer.concat([gzipSync(content), Buffer.alloc(700)]);
  for (const size of [1, 13, 10_000]) assert.deepEqual(decodeAll(new Gunzip(output), input, size), content);
});

test('Gzip makes what others read', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 3000 })), (all) => {
      using gzip = new Gzip(1, output);
      const parts: Buffer[] = [];
      const take = (piece: Buffer) => void parts.push(Buffer.from(piece));
      for (const one of all) gzip.push(one, take);
      gzip.end(take);
      assert.deepEqual(gunzipSync(Buffer.concat(parts)), Buffer.concat(all));
    }),
    { numRuns: 50 },
  );
});
