import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLog } from '../base/log.ts';
import { watchExits } from './exits.ts';

test('watchExits removes the file of a container that nobody knows, and only that', async () => {
  const dir = mkdtempSync(`${tmpdir()}/crio-ts-exits-`);
  try {
    const [late, stored, known] = ['a', 'b', 'c'].map((letter) => letter.repeat(64));
    mkdirSync(`${dir}/storage/${stored}`, { recursive: true });
    for (const id of [late, stored, known]) writeFileSync(`${dir}/${id}`, '0');
    const asked: string[] = [];
    await using watcher = watchExits({
      dir,
      log: silentLog,
      rescanMs: 10,
      unknownMs: 30,
      persistDirOf: (id) => `${dir}/storage/${id}`,
      onExit: async ({ containerId }) => {
        asked.push(containerId);
        return containerId === known;
      },
    });
    assert.ok(watcher !== undefined);
    const end = performance.now() + 5000;
    while (existsSync(`${dir}/${late}`) || asked.filter((id) => id === stored).length < 3) {
      assert.ok(performance.now() < end, 'in time');
      await sleep(5);
    }
    // Once more when a look falls between the second answer and the removal.
    assert.ok(asked.filter((id) => id === late).length >= 2);
    assert.equal(asked.filter((id) => id === known).length, 1);
    assert.ok(existsSync(`${dir}/${stored}`));
    assert.ok(existsSync(`${dir}/${known}`));
  } finally {
    rmSync(dir, { recursive: true });
  }
});
