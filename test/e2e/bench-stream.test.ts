import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { repository } from '../run/stage.ts';

const keys = ['execOverRuntimeMs', 'execRateOfRuntime', 'rssGrowthMiB', 'fdGrowth', 'sessionKiB'];
/** The compiler's code and the heap's size settle late; a leak of a single KiB an exec is more than nothing. */
const maxRssGrowthMiB = 40;
const maxSessionKiB = 400;

/** No time is judged here: machines differ, and others may use this one. */
test('a quick benchmark of streaming has every key, and 1,000 execs leave nothing behind', async () => {
  const file = join(repository, 'test/bench/stream.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [file, '--quick'], { maxBuffer: 1 << 24 });
  const lines = stdout.trimEnd().split('\n');
  const report = JSON.parse(lines.at(-1) ?? '') as Record<string, unknown>; // every key is looked at below
  assert.deepEqual(Object.keys(report), keys);
  const numbers = new Map(keys.map((key) => [key, Number(report[key])]));
  for (const [key, number] of numbers) assert.ok(Number.isFinite(number), `${key} is ${number}`);
  // Descriptors and timers of what came before the first measurement may still go.
  assert.ok(Number(report['fdGrowth']) <= 0, stdout);
  assert.ok(Number(report['rssGrowthMiB']) < maxRssGrowthMiB, stdout);
  assert.ok(Number(report['sessionKiB']) < maxSessionKiB, stdout);
  for (const kind of ['processes', 'timers']) {
    const [, before, after] = new RegExp(`^ +${kind} +(\\d+) +(\\d+)$`, 'm').exec(stdout) ?? [];
    assert.ok(Number(after) <= Number(before), stdout);
  }
  for (const line of lines.filter((text) => text.includes('sessions:')))
    assert.match(line, /; (0|-\d+) descriptors left/);
});
