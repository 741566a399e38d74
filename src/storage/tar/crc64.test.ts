import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Crc64 } from './crc64.ts';

function crc(...parts: readonly Uint8Array[]): string {
  const sum = new Crc64();
  for (const part of parts) sum.update(part);
  return sum.digest().toString('hex');
}

test('Crc64 gives the check value of the ISO polynomial', () => {
  assert.equal(crc(Buffer.from('123456789')), 'b90956c775a41001');
});

test('Crc64 does not depend on the pieces', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (data, cut) => {
      assert.equal(crc(data.subarray(0, cut), data.subarray(cut)), crc(data));
    }),
  );
});
