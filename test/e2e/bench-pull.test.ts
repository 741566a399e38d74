import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { repository } from '../run/stage.ts';

const keys = [
  'ratioPodman',
  'ratioSkopeo',
  'ratioTenAtOnce',
  'listP99Ms',
  'peakRssOverIdleMiB',
  'rssAfterMinuteOverIdleMiB',
  'seconds',
];

/** No time is judged here: machines differ, and others may use this one. */
test('a quick benchmark of pulls ends with a report that has every key, and a number for each', async () => {
  const file = join(repository, 'test/bench/pull.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [file, '--quick'], { maxBuffer: 1 << 24 });
  const lines = stdout.trimEnd().split('\n');
  const report = JSON.parse(lines.at(-1) ?? '') as Record<string, unknown>; // looked at below
  assert.deepEqual(Object.keys(report), keys);
  for (const [key, value] of Object.entries(report)) assert.equal(typeof value, 'number', key);
  assert.match(stdout, /^ +ext4 +tmpfs/m);
});
