import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { processState } from './process.ts';
import { startReaper } from './reaper.ts';
import { run } from './run.ts';

const env = { PATH: '/usr/bin:/bin' };

test('orphans are reaped, own children keep their exit codes', async () => {
  using reaper = startReaper();
  assert.ok(reaper !== undefined);
  const runs = Array.from({ length: 20 }, (_, index) =>
    run({ file: '/bin/sh', args: ['-c', `(sleep 0.0${index}; exit 1) & echo $!; exit ${index}`], env }),
  );
  const results = await Promise.all(runs);
  assert.deepEqual(
    results.map((result) => result.code),
    Array.from({ length: 20 }, (_, index) => index),
  );
  await sleep(400);
  for (const result of results) assert.equal(processState(Number(result.stdout.toString())), undefined);
  assert.equal(readFileSync('/proc/thread-self/children', 'utf8'), '');
});
