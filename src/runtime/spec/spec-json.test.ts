import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeSpec, encodeSpec } from './spec-json.ts';

test('encodeSpec writes keys in the order of the specification, indented with tabs', () => {
  const text = encodeSpec({
    ociVersion: '1.0.2',
    linux: { namespaces: [], resources: { pids: { limit: -1 }, devices: [] } },
    annotations: { b: '1', a: '2' },
    process: { cwd: '/', args: ['x'], user: { uid: 0, gid: 0 } },
  });
  const keys = [...text.matchAll(/^\t*"(\w+)":/gm)].map((match) => match[1]);
  assert.deepEqual(
    keys,
    'ociVersion process user uid gid args cwd annotations a b linux resources devices pids limit namespaces'.split(' '),
  );
  assert.match(text, /^\{\n\t"ociVersion"/);
});

test('encodeSpec and decodeSpec keep limits of 64 bits', () => {
  const spec = {
    ociVersion: '1.0.2',
    process: { cwd: '/', user: { uid: 0, gid: 0 }, rlimits: [{ type: 'RLIMIT_CORE', hard: 2n ** 64n - 1n, soft: 5 }] },
  };
  assert.match(encodeSpec(spec), /"hard": 18446744073709551615/);
  assert.deepEqual(decodeSpec(encodeSpec(spec)), spec);
});

test('decodeSpec refuses what is no spec', () => {
  assert.throws(() => decodeSpec('{"a":1}'), /parse config.json/);
  assert.throws(() => decodeSpec('{'), /parse config.json/);
});
