import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { cleanPath, pathInRoot, splitPath } from './clean-path.ts';

const paths = fc
  .array(fc.constantFrom('..', '.', '', 'a', 'b.c', '...', '/'), { maxLength: 8 })
  .map((parts) => parts.join('/'));

test('cleanPath agrees with POSIX normalisation', () => {
  fc.assert(
    fc.property(paths, (path) => {
      const expected = posix.normalize(path);
      assert.equal(cleanPath(path), expected === '/' ? '/' : expected.replace(/\/$/, ''));
    }),
  );
});

test('pathInRoot never leaves the root', () => {
  assert.equal(pathInRoot('../evil'), 'evil');
  assert.equal(pathInRoot('x/../../evil'), 'evil');
  assert.equal(pathInRoot('/abs/x'), 'abs/x');
  assert.equal(pathInRoot('./'), '');
  fc.assert(
    fc.property(paths, (path) => {
      const parts = pathInRoot(path).split('/');
      assert.ok(!parts.includes('..') && !parts.includes('.'));
    }),
  );
});

test('splitPath parts folder and name', () => {
  assert.deepEqual(splitPath('a/b/c'), ['a/b', 'c']);
  assert.deepEqual(splitPath('c'), ['', 'c']);
});
