import assert from 'node:assert/strict';
import { test } from 'node:test';
import { namesToPull } from './names-to-pull.ts';

test('an image is pulled by its tags, else by its digests', () => {
  const digests = ['sha256:aa'] as const;
  assert.deepEqual(namesToPull({ names: ['a.org/b@sha256:aa', 'a.org/b:1', 'a.org/b:2'], digests }), [
    'a.org/b:1',
    'a.org/b:2',
  ]);
  assert.deepEqual(namesToPull({ names: ['a.org/b@sha256:aa'], digests }), ['a.org/b@sha256:aa']);
  assert.deepEqual(namesToPull({ names: [], digests }), ['sha256:aa']);
});
