import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { silentLog } from '../base/log.ts';
import { PendingPods } from './pending.ts';

test('PendingPods lists its records and leaves alone what is none', () => {
  const directory = mkdtempSync(`${tmpdir()}/crio-ts-pending-`);
  try {
    const pending = new PendingPods(directory, silentLog);
    const pod = { id: 'a'.repeat(64), namespacePaths: ['/run/ns'], cgroup: '/kubepods', shmPath: '/run/shm' };
    pending.write(pod);
    const cutOff = 'b'.repeat(64);
    writeFileSync(`${directory}/${cutOff}.json`, '{"version":1,"id"');
    mkdirSync(`${directory}/${'c'.repeat(64)}.json`);
    mkdirSync(`${directory}/folder`);
    writeFileSync(`${directory}/.json`, '');
    const byId = pending.list().sort((one, other) => (one.id < other.id ? -1 : 1));
    assert.deepEqual(byId, [pod, { id: cutOff, namespacePaths: [], cgroup: '', shmPath: '' }]);
    pending.remove(pod.id);
    assert.deepEqual(
      pending.list().map(({ id }) => id),
      [cutOff],
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
