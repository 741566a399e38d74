import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseRetryAfter } from './registry-error.ts';

describe('parseRetryAfter', () => {
  const now = Date.UTC(2026, 10, 22, 12, 0, 0);
  const rows: readonly (readonly [header: string | undefined, wantMs: number | undefined])[] = [
    [undefined, undefined],
    ['0', 0],
    [' 120 ', 120_000],
    ['Sun, 22 Nov 2026 12:00:30 GMT', 30_000],
    ['Sunday, 22-Nov-26 12:00:30 GMT', 30_000],
    ['Mon, 23 Nov 2026 12:00:00 GMT', 86_400_000],
    ['Sun, 22 Nov 2026 11:59:00 GMT', 0],
    ['soon', undefined],
    ['', undefined],
  ];
  for (const [header, want] of rows)
    it(`reads ${JSON.stringify(header)} as ${want} ms`, () => assert.equal(parseRetryAfter(header, now), want));
});
