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

test('runFirst leaves a priority that somebody has chosen', async () => {
  const module = new URL('./priority.ts', import.meta.url).href;
  const script = `import { runFirst } from '${module}'; runFirst(); process.stdout.write(${statOfThread});`;
  for (const [chosen, nice, policy] of [
    [['nice', '-n', '3'], 3, 0],
    [['chrt', '--batch', '0'], 0, 3],
  ] as const) {
    const args = [...chosen.slice(1), process.execPath, '--input-type=module', '--eval', script];
    const child = await run({ file: chosen[0], args, env: { PATH: '/bin:/usr/bin' }, timeoutMs: 20_000 });
    const fields = fieldsOf(child.stdout.toString());
    assert.deepEqual([Number(fields[16]), Number(fields[38])], [nice, policy]);
  }
});

const statOfThread = "(await import('node:fs')).readFileSync('/proc/thread-self/stat', 'latin1')";

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

test('startNicely raises nothing above the priority of a daemon that is to be low', async () => {
  const module = new URL('./priority.ts', import.meta.url).href;
  const script = `
    import { readdirSync, readFileSync } from 'node:fs';
    import { Worker } from 'node:worker_threads';
    import { startNicely } from '${module}';
    const worker = startNicely(5, () => new Worker('', { eval: true }));
    for (const thread of readdirSync('/proc/self/task')) {
      const stat = readFileSync('/proc/self/task/' + thread + '/stat', 'latin1');
      console.log(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
    }
  `;
  const args = ['-n', '12', process.execPath, '--input-type=module', '--eval', script];
  const { stdout } = await run({ file: 'nice', args, env: { PATH: '/bin:/usr/bin' }, timeoutMs: 20_000 });
  assert.deepEqual([...new Set(stdout.toString().trim().split('\n'))], ['12']);
});

test('startNicely gives back what it started when no descriptor is left to list threads with', async () => {
  const module = new URL('./priority.ts', import.meta.url).href;
  const script = `
    import { openSync, readdirSync } from 'node:fs';
    import { startNicely } from '${module}';
    const useUp = () => {
      try {
        for (;;) openSync('/dev/null', 'r');
      } catch {
        return 'started';
      }
    };
    const results = [startNicely(5, useUp), startNicely(5, () => 'again')];
    try {
      readdirSync('/proc/self/task');
    } catch (error) {
      results.push(error.code);
    }
    console.log(results.join());
  `;
  const args = ['--nofile=256', process.execPath, '--input-type=module', '--eval', script];
  const { stdout } = await run({ file: 'prlimit', args, env: { PATH: '/bin:/usr/bin' }, timeoutMs: 20_000 });
  assert.equal(stdout.toString(), 'started,again,EMFILE\n');
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
  return Number(fieldsOf(stat)[16]);
}

/** From field 3 on. */
function fieldsOf(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}
