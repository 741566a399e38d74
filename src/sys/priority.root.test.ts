import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { runFirst, startNicely } from './priority.ts';
import { run } from './run.ts';

test('runFirst is for the calling thread alone: what it starts has the usual priority', async () => {
  runFirst();
  assert.equal(niceOf(readFileSync('/proc/thread-self/stat', 'latin1')), -10);
  const child = await run({ file: 'cat', args: ['/proc/self/stat'], env: { PATH: '/bin' }, timeoutMs: 10_000 });
  assert.equal(niceOf(child.stdout.toString()), 0);
  const before = threads();
  const worker = new Worker('setInterval(() => {}, 1000)', { eval: true });
  assert.deepEqual([...newNices(before)], [0]);
  await worker.terminate();
});

test('startNicely lowers a worker before its program begins', async () => {
  const before = threads();
  const worker = startNicely(
    7,
    () => new Worker("require('node:worker_threads').parentPort.on('message', () => {})", { eval: true }),
  );
  assert.deepEqual([...newNices(before)], [7]);
  await once(worker, 'online');
  await worker.terminate();
});

function threads(): string[] {
  return readdirSync('/proc/self/task');
}

/** The nice values of threads that are not among `before`. */
function newNices(before: readonly string[]): Set<number> {
  const found = threads().filter((thread) => !before.includes(thread));
  return new Set(found.map((thread) => niceOf(readFileSync(`/proc/self/task/${thread}/stat`, 'latin1'))));
}

/** proc_pid_stat(5), field 19 */
function niceOf(stat: string): number {
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
}
