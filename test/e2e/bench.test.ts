import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { repository } from '../run/stage.ts';

const times = ['p50', 'p95', 'p99'];
const calls = [
  'RunPodSandbox',
  'CreateContainer',
  'StartContainer',
  'StopContainer',
  'RemoveContainer',
  'StopPodSandbox',
  'PodUp',
  'PodDown',
  'ExecSync',
];
const rates = ['podsPerSecond', 'podsPerSecondFloor', 'execsPerSecond', 'execsPerSecondFloor'];
const lists = ['ListPodSandbox', 'ListContainers', 'ListImages', 'ListContainerStats', 'ListPodSandboxStats'];

/** A parsed report; every look into it is checked. */
type Tree = { readonly [key: string]: Tree | number | string };

function numberAt(report: Tree, ...path: string[]): void {
  let value: Tree | number | string | undefined = report;
  for (const key of path) value = typeof value === 'object' ? value[key] : undefined;
  assert.ok(typeof value === 'number' && value > 0, `${path.join('.')} is ${JSON.stringify(value)}`);
}

/** No time is judged here: machines differ, and others may use this one. */
test('a quick benchmark ends with a report that has every key', async () => {
  const file = join(repository, 'test/bench/measure.ts');
  const { stdout } = await promisify(execFile)(process.execPath, [file, '--quick'], { maxBuffer: 1 << 24 });
  const report = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Tree; // looked at below
  assert.deepEqual(Object.keys(report), ['unit', 'runc', 'crun', 'list', 'rssMiB', 'startMs']);
  assert.equal(report['unit'], 'ms');
  for (const handler of ['runc', 'crun']) {
    for (const time of times) {
      for (const call of [...calls, 'RemovePodSandbox']) numberAt(report, handler, 'calls', call, time);
      for (const call of calls) numberAt(report, handler, 'floor', call, time);
    }
    for (const rate of rates) numberAt(report, handler, rate);
  }
  for (const count of ['20', '500']) {
    for (const list of lists) for (const time of times) numberAt(report, 'list', count, list, time);
  }
  for (const key of ['before', 'after']) numberAt(report, 'rssMiB', key);
  numberAt(report, 'startMs');
});
