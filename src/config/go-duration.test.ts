import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatDuration, parseDuration } from './go-duration.ts';

test('parseDuration reads the forms of Go', () => {
  assert.equal(parseDuration('5s'), 5000);
  assert.equal(parseDuration('1m30s'), 90_000);
  assert.equal(parseDuration('1.5h'), 5_400_000);
  assert.equal(parseDuration('-2ms'), -2);
  assert.equal(parseDuration('+.5s'), 500);
  assert.equal(parseDuration('1us1ns'), 0.001001);
  assert.equal(parseDuration('0'), 0);
});

test('parseDuration refuses what Go refuses', () => {
  for (const text of ['', '5', 's', '5 s', '1d', '5s ', '1h-2m', '.s', '-', '9999999999h']) {
    assert.equal(parseDuration(text), undefined, text);
  }
});

test('formatDuration prints as Go does', () => {
  assert.equal(formatDuration(0), '0s');
  assert.equal(formatDuration(5000), '5s');
  assert.equal(formatDuration(2500), '2.5s');
  assert.equal(formatDuration(90_000), '1m30s');
  assert.equal(formatDuration(3_600_000), '1h0m0s');
  assert.equal(formatDuration(100), '100ms');
  assert.equal(formatDuration(0.0015), '1.5µs');
  assert.equal(formatDuration(-1), '-1ms');
});

test('formatDuration and parseDuration are inverse for whole microseconds', () => {
  fc.assert(
    fc.property(fc.integer({ min: -1e12, max: 1e12 }), (us) => {
      const ms = us / 1000;
      assert.equal(parseDuration(formatDuration(ms)), ms);
    }),
  );
});
