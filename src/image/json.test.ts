import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseLooseJson, parseStrictJson, toPlain } from './json.ts';

describe('parseStrictJson', () => {
  it('reads what JSON.parse reads, when no key stands twice', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const text = JSON.stringify(value);
        let strict;
        try {
          strict = parseStrictJson(Buffer.from(text), 'x');
        } catch (error) {
          assert.match(String(error), /stands twice/);
          return;
        }
        assert.equal(JSON.stringify(toPlain(strict)), text);
      }),
    );
  });

  it('refuses a key that stands twice, also escaped or in other case, at any depth', () => {
    for (const text of [
      '{"a":1,"a":2}',
      '{"a":1,"A":2}',
      '{"a":1,"\\u0061":2}',
      '[{"x":{"k":[],"K":{}}}]',
      '{"\\"":1,"\\"":2}',
    ]) {
      assert.throws(() => parseStrictJson(Buffer.from(text), 'x'), { kind: 'invalid' }, text);
    }
    for (const text of ['{"a":{"a":1},"b":[{"a":1},{"a":2}]}', '{"a":"\\"a\\":","b":"}"}']) {
      assert.doesNotThrow(() => parseStrictJson(Buffer.from(text), 'x'), text);
    }
  });

  it('refuses what is no JSON with a clear error', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('{', '}', '[', ']', '"', ':', ',', 'a', '1', '\\', ' ') }),
        (text) => {
          try {
            assert.deepEqual(toPlain(parseStrictJson(Buffer.from(text), 'x')), JSON.parse(text));
          } catch (error) {
            assert.equal((error as { kind?: string }).kind, 'invalid');
          }
        },
      ),
    );
    assert.throws(() => parseStrictJson(Buffer.from([0x22, 0xff, 0x22]), 'x'), /not valid UTF-8/);
  });
});

describe('parseLooseJson', () => {
  it('keeps __proto__ as an ordinary key', () => {
    const value = toPlain(parseLooseJson(Buffer.from('{"__proto__":{"polluted":1},"a":2,"a":3}'), 'x'));
    assert.equal(JSON.stringify(value), '{"__proto__":{"polluted":1},"a":3}');
    assert.equal(({} as { polluted?: number }).polluted, undefined);
  });
});
