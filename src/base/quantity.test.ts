import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQuantity } from './quantity.ts';

test('parseQuantity reads decimal, binary and exponent forms', () => {
  const expected: [string, number | undefined][] = [
    ['0', 0],
    ['128974848', 128_974_848],
    ['129e6', 129_000_000],
    ['129M', 129_000_000],
    ['123Mi', 123 * 2 ** 20],
    ['1.5Gi', 1.5 * 2 ** 30],
    ['.5k', 500],
    ['100m', 1],
    ['-1', -1],
    ['', undefined],
    ['1K', undefined],
    ['1 Mi', undefined],
    ['Mi', undefined],
  ];
  for (const [text, value] of expected) assert.equal(parseQuantity(text), value, text);
});
