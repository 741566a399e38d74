import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startTime } from '../sys/process.ts';
import { spawn } from '../sys/spawn.ts';
import { hostProcesses } from './processes.ts';

function startProgram(script: string) {
  const child = spawn({ file: '/bin/sh', args: ['-c', script], env: {}, stdio: ['null', 'null', 'null'] });
  const ref = { pid: child.pid, startTime: startTime(child.pid) ?? '' };
  return { child, ref };
}

const never = new AbortController().signal;

test('signal reaches exactly the process that is meant, and waitForEnd sees its end', async () => {
  const { child, ref } = startProgram('exec sleep 1000');
  assert.equal(hostProcesses.isAlive(ref), true);
  const ended = hostProcesses.waitForEnd(ref, never);
  assert.equal(hostProcesses.signal({ ...ref, startTime: '1' }, 9), false);
  assert.equal(hostProcesses.isAlive(ref), true);
  assert.equal(hostProcesses.signal(ref, 9), true);
  await ended;
  assert.equal((await child.exited).signal, 9);
  assert.equal(hostProcesses.signal(ref, 9), false);
  assert.equal(hostProcesses.isAlive(ref), false);
  assert.equal(hostProcesses.readStatus(ref), undefined);
  await hostProcesses.waitForEnd(ref, never);
});

test('waitForEnd can be given up', async () => {
  const { child, ref } = startProgram('exec sleep 1000');
  const giveUp = new AbortController();
  const waiting = hostProcesses.waitForEnd(ref, giveUp.signal);
  giveUp.abort(new Error('enough'));
  await assert.rejects(waiting, /enough/);
  hostProcesses.signal(ref, 9);
  await child.exited;
});

test('readStatus tells which signals a program handles', async () => {
  const { child, ref } = startProgram('trap "exit 3" TERM; while :; do sleep 0.05; done');
  for (;;) {
    const status = hostProcesses.readStatus(ref);
    assert.ok(status !== undefined);
    if (status.hasHandler(15)) break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(hostProcesses.readStatus(ref)?.innerPid, ref.pid);
  hostProcesses.signal(ref, 15);
  assert.equal((await child.exited).code, 3);
});
