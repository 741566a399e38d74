import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { goJson } from './go-json.ts';

test('goJson sorts keys and escapes as Go does', () => {
  assert.equal(
    goJson({ b: '<a&b>', a: ['\u2028', { d: 1, c: undefined }] }),
    '{"a":["\\u2028",{"d":1}],"b":"\\u003ca\\u0026b\\u003e"}',
  );
});

test('goJson keeps every value', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) =>
      assert.deepEqual(JSON.parse(goJson(value)), JSON.parse(JSON.stringify(value))),
    ),
  );
});
