import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { WriteBack } from './write-back.ts';

test('of syncs at once each is told of a write that failed, and those who wait share one', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'write-back-'));
  t.after(() => rmSync(folder, { recursive: true }));
  let calls = 0;
  // As the kernel: an open file is told once, and the sync that is told may end after one that is not.
  const syncfs = async (): Promise<void> => {
    calls += 1;
    if (calls > 1) return;
    for (let count = 0; count < 5; count++) await turn();
    throw new Error('lost');
  };
  await using writeBack = new WriteBack([folder], syncfs);
  const mark = writeBack.mark();
  const results = await Promise.allSettled(Array.from({ length: 3 }, () => writeBack.sync([mark])));
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'rejected', 'rejected'],
  );
  const late = writeBack.mark();
  await writeBack.sync([late]);
  const first = writeBack.sync([late]);
  await turn();
  const before = calls;
  await Promise.all([first, ...Array.from({ length: 5 }, () => writeBack.sync([late]))]);
  assert.ok(calls - before <= 2, 'not one each');
});
