import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
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

/** Adopts a process that does not end, and wants to end itself. */
const leaving = `
  const { expectOrphan, startReaper } = await import('./reaper.ts');
  const { run } = await import('./run.ts');
  const reaper = startReaper();
  const orphan = expectOrphan();
  const { stdout } = await run({ file: '/bin/sh', args: ['-c', 'sleep 1000 >/dev/null & echo $!'], env: process.env });
  void orphan.claim(Number(stdout)).exited.then(() => process.exit(3));
  reaper[Symbol.dispose]();
  console.log(String(stdout));
`;

test('an orphan that cannot be killed does not keep this process from its end', () => {
  const options = { cwd: import.meta.dirname, encoding: 'utf8', timeout: 20_000 } as const;
  const stdout = execFileSync(process.execPath, ['--input-type=module', '--eval', leaving], options);
  process.kill(Number(stdout), 'SIGKILL');
});
