import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { toGrpcStatus } from './status.ts';

test('toGrpcStatus keeps both ends of a text that no header could hold', () => {
  assert.equal(toGrpcStatus(new Error('x'.repeat(5120))).details.length, 5120);
  const { details } = toGrpcStatus(new Error(`exec "${'x'.repeat(1 << 20)}": file name too long`));
  assert.match(details, /^exec "x+\.\.\. \(\d+ characters\) \.\.\.x+": file name too long$/);
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 8000, size: 'max' }), (text) => {
      // grpc-js refuses what nghttp2 would not take into a block of headers.
      assert.ok(Buffer.byteLength(toGrpcStatus(new Error(text)).details) * 3 < 60_000);
    }),
    { numRuns: 10 },
  );
});
