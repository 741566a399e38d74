import assert from 'node:assert/strict';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../fixtures/process.ts';
import { stageFolder } from '../run/stage.ts';
import { buildGuest, runGuest } from './guest.ts';
import { crashImages, fillRegistry } from './images.ts';
import { readWriteLog, replay, survivors } from './log-writes.ts';
import type { LoggedWrite } from './log-writes.ts';
import { ext4, mountLoop, removeFile } from './loop-disk.ts';
import { imageFaults, listedImages } from './whole-store.ts';

/**
 * Power cuts that are stricter than a clone at one point in time: the daemon works in a virtual machine, QEMU logs every
 * write and flush of its disk, and any part of what was written since the last flush may be lost.
 */

const long = process.env['CRASH_LONG'] !== undefined;
const [first, second] = crashImages();

test('whatever a disk had in its cache when the power went, every image that is listed is whole', async (t) => {
  const folder = join(stageFolder(), 'write-log');
  mkdirSync(folder);
  const registryStorage = join(folder, 'registry');
  await fillRegistry(registryStorage, [first, second]);
  const parts = await buildGuest({ folder, registryStorage, images: [first.name, second.name] });
  const empty = join(folder, 'empty.img');
  writeFileSync(empty, '');
  truncateSync(empty, 96 * 2 ** 20);
  run('mkfs.ext4', [...ext4.slice(1), empty]);
  const disk = join(folder, 'disk.img');
  const log = join(folder, 'log.img');
  run('cp', ['--sparse=always', empty, disk]);
  const printed = runGuest(parts, { disk, log, console: join(folder, 'console') });
  assert.match(printed, /guest: done/, printed);
  const writes = readWriteLog(log);
  const flushes = writes.flatMap(({ isFlush }, index) => (isFlush ? [index + 1] : []));
  const states = new Set<string>();
  const random = generator(1);
  const points = pick(flushes, long ? 400 : 40).flatMap((flush, at) => [
    { end: flush, isWritten: () => true },
    // Between this flush and the next: a part of the writes, from none to all.
    { end: Math.min(writes.length, flush + Math.floor(random() * 40)), isWritten: () => random() < (at % 5) / 4 },
  ]);
  const faults: string[] = [];
  for (const { end, isWritten } of points) {
    const found = await lookAt({ folder, empty, log }, survivors(writes, end, isWritten));
    if (found.faults.length === 0) states.add(found.images.toSorted().join(' '));
    faults.push(...found.faults.map((fault) => `after write ${end}: ${fault}`));
  }
  t.diagnostic(
    `${writes.length} writes, ${flushes.length} flushes, ${points.length} power cuts; states: ${[...states].join(' | ')}`,
  );
  assert.deepEqual(faults, []);
  for (const state of ['', first.name, second.name]) assert.ok(states.has(state), state);
  await assertLossIsSeen({ folder, empty, log }, writes, flushes);
});

interface Files {
  readonly folder: string;
  readonly empty: string;
  readonly log: string;
}

async function lookAt(
  { folder, empty, log }: Files,
  writes: readonly LoggedWrite[],
): Promise<{ readonly faults: readonly string[]; readonly images: readonly string[] }> {
  const disk = join(folder, 'cut.img');
  removeFile(disk);
  run('cp', ['--sparse=always', empty, disk]);
  replay(log, disk, writes);
  using mounted = mountLoop({ file: disk, mountPoint: join(folder, 'cut') });
  const root = join(mounted.mountPoint, 'storage');
  const faults = await imageFaults(root);
  return { faults, images: faults.length > 0 ? [] : listedImages(root) };
}

/**
 * Were flushes nothing and one large write lost, the same look would find it. Not every write shows: the data of the image
 * that was removed does not, nor does a journal's that was written to its place since. So the latest are lost one by one.
 */
async function assertLossIsSeen(
  files: Files,
  writes: readonly LoggedWrite[],
  flushes: readonly number[],
): Promise<void> {
  const whole = writes.slice(0, flushes.at(-1));
  const large = whole.filter(({ length }) => length >= 65_536).toReversed();
  assert.ok(large.length > 0, 'no write of 64 KiB or more is in the log');
  for (const lost of large) {
    const { faults } = await lookAt(
      files,
      whole.filter((write) => write !== lost),
    ).catch((error: unknown) => ({ faults: [String(error)] }));
    if (faults.length > 0) return;
  }
  assert.fail(`each of ${large.length} large writes can be lost unseen`);
}

/** Numbers from 0 to 1, the same in each run (xorshift32). */
function generator(seed: number): () => number {
  let state = seed * 2_654_435_761;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

function pick(items: readonly number[], count: number): number[] {
  if (items.length <= count) return [...items];
  return Array.from({ length: count }, (_, at) => items[Math.floor((at * items.length) / count)] ?? 0);
}
