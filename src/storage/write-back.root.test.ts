import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ext4, mountLoop, takenDownAfter } from '../../test/crash/loop-disk.ts';
import { run } from '../../test/fixtures/process.ts';
import { WriteBack } from './write-back.ts';

const mebibyte = 2 ** 20;

/** A disk that takes 4 MiB, then answers every write with an error, until it is let have room. */
function openDisk(t: TestContext) {
  const stack = takenDownAfter(t);
  const folder = mkdtempSync(join(tmpdir(), 'write-back-'));
  run('mount', ['-t', 'tmpfs', '-o', 'size=100m', 'tmpfs', folder]);
  stack.defer(() => void run('umount', ['-l', folder]));
  const mountPoint = join(folder, 'mounted');
  stack.use(mountLoop({ file: join(folder, 'disk'), mountPoint, size: 64 * mebibyte, mkfs: ext4 }));
  const kilobytes = Number(run('du', ['-k', join(folder, 'disk')]).split('\t')[0]);
  run('mount', ['-o', `remount,size=${kilobytes + 4096}k`, folder]);
  mkdirSync(join(mountPoint, 'a'));
  const writeBack = stack.use(new WriteBack([mountPoint, join(mountPoint, 'a')]));
  return {
    mountPoint,
    writeBack,
    write: () => writeFileSync(join(mountPoint, 'a/layer'), Buffer.alloc(20 * mebibyte, 'x')),
    makeRoom: () => void run('mount', ['-o', 'remount,size=100m', folder]),
  };
}

/** The loop driver gives either error. */
const isLost = /syncfs: (?:EIO|ENOSPC)/;

/** The kernel tells of it in one sync only: without the mark the second one would say that all is well. */
test('a write that failed in an early sync fails the sync of the image it belongs to, and only that', async (t) => {
  const { writeBack, write, makeRoom } = openDisk(t);
  const lost = writeBack.mark();
  write();
  writeBack.wrote(20 * mebibyte);
  while (writeBack.mark() === lost) await sleep(20);
  makeRoom();
  const later = writeBack.mark();
  await assert.rejects(writeBack.sync([lost, later]), isLost);
  await writeBack.sync([later]);
});

test('a write that failed in the sync of another program fails the sync of the image it belongs to', async (t) => {
  const { mountPoint, writeBack, write, makeRoom } = openDisk(t);
  const lost = writeBack.mark();
  write();
  assert.throws(() => run('sync', ['-f', mountPoint]), /sync/);
  makeRoom();
  await assert.rejects(writeBack.sync([lost]), isLost);
  await writeBack.sync([writeBack.mark()]);
});

test('WriteBack keeps one file per file system open, until its end', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'write-back-'));
  t.after(() => run('rm', ['-r', folder]));
  const openBelow = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
      } catch {
        return false;
      }
    }).length;
  {
    await using writeBack = new WriteBack([folder, join(folder, 'not-there-yet')]);
    for (let count = 0; count < 3; count++) await writeBack.sync([writeBack.mark()]);
    assert.equal(openBelow(), 1);
  }
  assert.equal(openBelow(), 0);
});
