import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { openBzip2Decoder, openXzDecoder } from './decoder.ts';
import type { Decoder } from './decoder.ts';

const content = Buffer.concat([Buffer.alloc(1_000_000, 'abc'), randomBytes(400_000), Buffer.alloc(10)]);

function decode(open: () => Decoder, data: Buffer, pieces: number): Buffer {
  using decoder = open();
  const output: Buffer[] = [];
  const size = Math.ceil(data.length / pieces) || 1;
  for (let at = 0; at < data.length; at += size)
    for (const piece of decoder.decode(data.subarray(at, at + size))) output.push(Buffer.from(piece));
  for (const piece of decoder.finish()) output.push(Buffer.from(piece));
  return Buffer.concat(output);
}

for (const [name, open] of [
  ['xz', openXzDecoder],
  ['bzip2', openBzip2Decoder],
] as const) {
  const compress = (data: Buffer): Buffer =>
    execFileSync(name, ['-c', '-1'], { input: data, maxBuffer: 1 << 28, stdio: ['pipe', 'pipe', 'inherit'] });

  describe(`the decoder of ${name}`, () => {
    it('gives back what the program compressed, whatever pieces it comes in', () => {
      const data = compress(content);
      for (const pieces of [1, 7, 5000]) assert.ok(decode(open, data, pieces).equals(content), `${pieces} pieces`);
      assert.equal(decode(open, compress(Buffer.alloc(0)), 1).length, 0);
    });

    it('reads streams one after another', () => {
      const data = Buffer.concat([compress(Buffer.from('one')), compress(Buffer.from('two'))]);
      for (const pieces of [1, 3, data.length]) assert.equal(decode(open, data, pieces).toString(), 'onetwo');
    });

    it('refuses what is cut off, damaged, or something else', () => {
      const data = compress(content);
      assert.throws(() => decode(open, data.subarray(0, data.length - 1), 3), /unexpected end of stream/);
      assert.throws(() => decode(open, Buffer.alloc(0), 1), /unexpected end of stream/);
      const damaged = Buffer.from(data);
      const at = Math.floor(data.length / 2);
      damaged.fill(0x55, at, at + 100);
      assert.throws(() => decode(open, damaged, 3), new RegExp(`decompress ${name}: data is corrupt`));
      assert.throws(() => decode(open, Buffer.from('<html>'.repeat(100)), 1), /not in (?:xz|bzip2) format/);
      assert.throws(() => decode(open, Buffer.concat([data, Buffer.from('garbage')]), 1), /decompress/);
    });

    it('gives a bomb out in pieces', () => {
      const data = compress(Buffer.alloc(20_000_000));
      using decoder = open();
      let largest = 0;
      let total = 0;
      for (const piece of decoder.decode(data)) {
        largest = Math.max(largest, piece.length);
        total += piece.length;
      }
      assert.equal(total, 20_000_000);
      assert.ok(largest <= 256 * 1024);
    });
  });
}
