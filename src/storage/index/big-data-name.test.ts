import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bigDataFile } from './big-data-name.ts';

test('bigDataFile keeps plain keys and encodes the others', () => {
  assert.equal(bigDataFile('manifest'), 'manifest');
  assert.equal(bigDataFile('sha256:af56'), `=${Buffer.from('sha256:af56').toString('base64')}`);
  assert.equal(bigDataFile('manifest-sha256:4f60'), '=bWFuaWZlc3Qtc2hhMjU2OjRmNjA=');
});

test('bigDataFile never names another folder', () => {
  assert.throws(() => bigDataFile(''));
  for (const key of ['.', '..', '../x', 'a/b']) assert.match(bigDataFile(key), /^=[A-Za-z0-9+=]+$/);
  assert.throws(() => bigDataFile('aa?'), /no file name/);
});
