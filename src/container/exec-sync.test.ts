import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maxOutputBytes } from './exec-sync.ts';

test('an answer with all the output that is kept is neither too large for the daemon nor for its clients', () => {
  const [mebi, fields] = [1 << 20, 1000];
  assert.ok(maxOutputBytes(80 * mebi) + fields < 16 * mebi);
  assert.ok(maxOutputBytes(80 * mebi) > 15 * mebi);
  assert.ok(maxOutputBytes(4 * mebi) + fields < 4 * mebi);
  assert.equal(maxOutputBytes(1000), 0);
});
