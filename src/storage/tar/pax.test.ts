import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { paxData } from '../testing/build-tar.ts';
import { parsePax, parsePaxTime } from './pax.ts';
import { TarError } from './tar-header.ts';

test('parsePax reads what a writer writes', () => {
  const records = fc.dictionary(fc.stringMatching(/^[A-Za-z.]{1,12}$/), fc.uint8Array({ maxLength: 200 }), {
    noNullPrototype: true,
  });
  fc.assert(
    fc.property(records, (given) => {
      const entries = Object.entries(given).map(([key, value]) => [`k.${key}`, Buffer.from(value)] as const);
      assert.deepEqual(parsePax(paxData(Object.fromEntries(entries))), new Map(entries));
    }),
  );
});

test('parsePax refuses lengths that lie', () => {
  for (const text of [
    '5 a=b',
    '99 a=b\n',
    '0 a=b\n',
    '-6 a=b\n',
    '6 a=b\nx',
    '6 =bc\n',
    ' a=b\n',
    '7777777777777 a=b\n',
  ]) {
    assert.throws(() => parsePax(Buffer.from(text)), TarError, text);
  }
});

test('parsePaxTime keeps nanoseconds', () => {
  assert.equal(parsePaxTime(Buffer.from('1.5')), 1_500_000_000n);
  assert.equal(parsePaxTime(Buffer.from('-1.5')), -1_500_000_000n);
  assert.equal(parsePaxTime(Buffer.from('12.0000000019')), 12_000_000_001n);
  assert.throws(() => parsePaxTime(Buffer.from('1e9')), TarError);
});
