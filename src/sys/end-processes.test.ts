import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endProcesses } from './end-processes.ts';
import { spawn } from './spawn.ts';

const PATH = process.env['PATH'] ?? '';

test('endProcesses kills by a whole entry of the environment or the command line', async () => {
  const mark = `END_PROCESSES_TEST=${process.pid}`;
  const wanted = spawn({ file: 'sleep', args: ['1000'], env: { PATH, END_PROCESSES_TEST: String(process.pid) } });
  const other = spawn({ file: 'sleep', args: ['1001'], env: { PATH, X: mark, END_PROCESSES_TEST: `${process.pid}0` } });
  await endProcesses('environ', mark);
  assert.equal((await wanted.exited).signal, 9);
  other.kill(0);
  await endProcesses('cmdline', `1001.${process.pid}`);
  other.kill(15);
  assert.equal((await other.exited).signal, 15);
});

test('endProcesses finds nothing, and that is fine', async () => {
  await endProcesses('cmdline', `no-such-argument-${process.pid}`);
});
