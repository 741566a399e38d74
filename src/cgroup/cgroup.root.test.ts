import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { spawn } from '../sys/spawn.ts';
import { openCgroups } from './cgroups.ts';

const top = `/crio-ts-test-${randomBytes(6).toString('hex')}`;

test('createCgroup and removeCgroup work in every hierarchy of this host', async () => {
  const cgroups = openCgroups({ manager: 'cgroupfs' });
  const { roots } = cgroups.hierarchies;
  try {
    await cgroups.createCgroup(`${top}/pod/crio-1`);
    await cgroups.createCgroup(`${top}/pod/crio-1`);
    for (const root of roots) assert.ok(existsSync(`${root}${top}/pod/crio-1`), root);
    assert.equal(await cgroups.readMemoryLimit(`${top}/pod`), Infinity);
    assert.equal(await cgroups.readMemoryLimit(`${top}/absent`), undefined);
    assert.equal(cgroups.readStats(`${top}/absent`), undefined);
    assert.equal(cgroups.readStats(`${top}/pod/crio-1`)?.pids, 0);
  } finally {
    await cgroups.removeCgroup(top);
  }
  for (const root of roots) assert.equal(existsSync(`${root}${top}`), false, root);
});

test('killAll ends the processes of a cgroup, after which it can be removed', async () => {
  const cgroups = openCgroups({ manager: 'cgroupfs' });
  await cgroups.createCgroup(`${top}/inner`);
  const child = spawn({ file: '/bin/sleep', args: ['1000'], env: {}, stdio: ['null', 'null', 'null'] });
  try {
    for (const root of cgroups.hierarchies.roots) writeFileSync(`${root}${top}/inner/cgroup.procs`, String(child.pid));
    assert.equal(cgroups.readStats(`${top}/inner`)?.pids, 1);
    await assert.rejects(cgroups.removeCgroup(top, { retryMs: 20 }), /EBUSY/);
    await cgroups.killAll(top);
    assert.equal((await child.exited).signal, 9);
  } finally {
    child.kill(9);
    await cgroups.removeCgroup(top);
  }
});
