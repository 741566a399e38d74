import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseRecords } from './parse-records.ts';

const records = fc.array(
  fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer(), fc.constant(null)), { noNullPrototype: true }),
);

test('parseRecords reads an array of objects', () => {
  assert.deepEqual(parseRecords('[{"id":"a"},{"id":"b"}]').records, [{ id: 'a' }, { id: 'b' }]);
  for (const empty of ['', '\n', 'null', '[]']) assert.deepEqual(parseRecords(empty), { records: [], damaged: [] });
});

test('parseRecords takes every whole object of a file cut off anywhere', () => {
  fc.assert(
    fc.property(records, fc.nat(), (given, at) => {
      const text = JSON.stringify(given);
      const found = parseRecords(text.slice(0, at % (text.length + 1))).records;
      assert.deepEqual(found, JSON.parse(JSON.stringify(given.slice(0, found.length))));
      if (at % (text.length + 1) >= text.length - 1) assert.equal(found.length, given.length);
    }),
  );
});

test('parseRecords sets aside what is no object', () => {
  const { records: found, damaged } = parseRecords('[{"id":"a"},5,{"id":"b"]},{"id":"c"}');
  assert.deepEqual(found, [{ id: 'a' }, { id: 'c' }]);
  assert.equal(damaged.length > 0, true);
  assert.deepEqual(parseRecords('[1,{"a":2}]'), { records: [{ a: 2 }], damaged: ['1'] });
});

test('parseRecords never throws', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('{', '}', '"', '\\', '[', ']', ',', 'a', '1', ':') }),
      (text) => void parseRecords(text),
    ),
  );
});
