import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ext4, mountLoop, takenDownAfter } from '../../test/crash/loop-disk.ts';
import { run } from '../../test/fixtures/process.ts';
import { WriteBack } from './write-back.ts';

const mebibyte = 2 ** 20;

/** The kernel tells of it in one sync only: without the mark the second one would say that all is well. */
test('a write that failed in an early sync fails the sync of the image it belongs to, and only that', async (t) => {
  const stack = takenDownAfter(t);
  const folder = mkdtempSync(join(tmpdir(), 'write-back-'));
  // The disk's own blocks fit, and 4 MiB more; then it answers every write with an error.
  run('mount', ['-t', 'tmpfs', '-o', 'size=100m', 'tmpfs', folder]);
  stack.defer(() => void run('umount', ['-l', folder]));
  const mountPoint = join(folder, 'mounted');
  stack.use(mountLoop({ file: join(folder, 'disk'), mountPoint, size: 64 * mebibyte, mkfs: ext4 }));
  const kilobytes = Number(run('du', ['-k', join(folder, 'disk')]).split('\t')[0]);
  run('mount', ['-o', `remount,size=${kilobytes + 4096}k`, folder]);
  mkdirSync(join(mountPoint, 'a'));
  const writeBack = new WriteBack([mountPoint, join(mountPoint, 'a')]);
  const lost = writeBack.mark();
  writeFileSync(join(mountPoint, 'a/layer'), Buffer.alloc(20 * mebibyte, 'x'));
  writeBack.wrote(20 * mebibyte);
  while (writeBack.mark() === lost) await sleep(20);
  run('mount', ['-o', 'remount,size=100m', folder]);
  const later = writeBack.mark();
  // The loop driver gives either error.
  await assert.rejects(writeBack.sync([lost, later]), /syncfs: (?:EIO|ENOSPC)/);
  await writeBack.sync([later]);
});
