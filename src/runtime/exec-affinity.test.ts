import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withAffinity } from './exec-affinity.ts';

const process = { user: { uid: 0, gid: 0 }, cwd: '/' };

test('withAffinity starts an exec on the first CPU of a container that has its own', () => {
  for (const [cpus, initial] of [
    ['2-3,8', '2'],
    ['8,2-3', '2'],
    ['0', '0'],
  ] as const) {
    assert.deepEqual(withAffinity(process, 'first', cpus), { ...process, execCPUAffinity: { initial } });
  }
});

test('withAffinity changes nothing without the option, or without CPUs of its own', () => {
  assert.equal(withAffinity(process, '', '2-3'), process);
  assert.equal(withAffinity(process, 'first', undefined), process);
  assert.equal(withAffinity(process, 'first', ''), process);
});
