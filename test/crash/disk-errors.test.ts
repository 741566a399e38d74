import assert from 'node:assert/strict';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { serviceError } from '../client/client.ts';
import { waitFor } from '../client/pods.ts';
import { run } from '../fixtures/process.ts';
import type { Registry } from '../fixtures/registry.ts';
import { startDaemon } from '../run/daemon.ts';
import type { Daemon } from '../run/daemon.ts';
import { stageFolder } from '../run/stage.ts';
import { crashImages, serveImages } from './images.ts';
import { ext4, mountLoop, removeFile, takenDownAfter } from './loop-disk.ts';
import type { LoopDisk } from './loop-disk.ts';
import { assertNoLeftovers, imageFaults } from './whole-store.ts';

/** A disk that is full, or takes no write, or fails, below the real daemon. Every step at which one may be full: full-disk.root.test.ts. */

const folder = '/var/lib/containers';
const graphRoot = `${folder}/storage`;
const [first, second] = crashImages();
let registry: Registry;

before(async () => {
  registry = await serveImages([first, second]);
});
after(() => registry[Symbol.asyncDispose]());

/** The file that a loop device lies in. */
const diskFile = (name: string) => join(stageFolder(), `${name}.img`);

function ext4Disk(world: AsyncDisposableStack, name: string, size: number): LoopDisk {
  const file = diskFile(name);
  world.defer(() => removeFile(file));
  return world.use(mountLoop({ file, mountPoint: folder, size, mkfs: ext4 }));
}

async function start(world: AsyncDisposableStack): Promise<Daemon> {
  return world.use(await startDaemon({ logLevel: 'info' }));
}

const pull = ({ client }: Daemon, name: string) => client.image.pullImage({ image: { image: name } });
const remove = ({ client }: Daemon, name: string) => client.image.removeImage({ image: { image: name } });

/** The text of the refusal; undefined when the pull went through. */
async function pullError(daemon: Daemon, name: string): Promise<string | undefined> {
  try {
    await pull(daemon, name);
    return undefined;
  } catch (error) {
    return serviceError(error).details;
  }
}

function openFiles(daemon: Daemon): number {
  return readdirSync(`/proc/${daemon.pid()}/fd`).length;
}

/** Workers and connections end a moment after the pull. */
async function assertNothingLeaked(daemon: Daemon, filesBefore: number): Promise<void> {
  await assertNoLeftovers(graphRoot);
  await waitFor('the files to be closed', 8000, () => (openFiles(daemon) <= filesBefore ? true : undefined)).catch(() =>
    assert.deepEqual(readdirSync(`/proc/${daemon.pid()}/fd`).length, filesBefore),
  );
  assert.deepEqual(await imageFaults(graphRoot), []);
}

/** A pull without trouble opens what stays open: connections of the registry client, native libraries. */
async function warmUp(daemon: Daemon): Promise<number> {
  await pull(daemon, second.name);
  await remove(daemon, second.name);
  await assertNothingLeaked(daemon, Number.POSITIVE_INFINITY);
  return openFiles(daemon);
}

async function assertWorksAgain(daemon: Daemon): Promise<void> {
  await pull(daemon, first.name);
  assert.deepEqual(await imageFaults(graphRoot), []);
  await remove(daemon, first.name);
}

test('a full ext4 disk refuses a pull, deletes images, and takes the pull when there is room', async (t) => {
  const world = takenDownAfter(t);
  ext4Disk(world, 'full', 64 * 2 ** 20);
  const daemon = await start(world);
  const files = await warmUp(daemon);
  await pull(daemon, second.name);
  const filler = `${folder}/filler`;
  fill(filler);
  assert.match((await pullError(daemon, first.name)) ?? '', /ENOSPC/);
  await assertNothingLeaked(daemon, files + 2);
  await remove(daemon, second.name);
  assert.deepEqual((await daemon.client.image.listImages({})).images, []);
  rmSync(filler);
  await assertWorksAgain(daemon);
  await assertNothingLeaked(daemon, files + 2);
});

function fill(path: string): void {
  const fd = openSync(path, 'w');
  try {
    for (let size = 1 << 20; size >= 512; size >>= 1) {
      const block = Buffer.alloc(size);
      try {
        for (;;) writeSync(fd, block);
      } catch {
        // Full for this size.
      }
    }
  } finally {
    closeSync(fd);
  }
}

test('a quota that is used up refuses a pull, and a larger one takes it', async (t) => {
  const world = takenDownAfter(t);
  const file = diskFile('quota');
  world.defer(() => removeFile(file));
  world.use(mountLoop({ file, mountPoint: folder, size: 256 * 2 ** 20, mkfs: ['mkfs.btrfs', '-q', '-f'] }));
  run('btrfs', ['subvolume', 'create', graphRoot]);
  run('btrfs', ['quota', 'enable', folder]);
  const daemon = await start(world);
  const files = await warmUp(daemon);
  run('btrfs', ['qgroup', 'limit', '600K', graphRoot]);
  assert.match((await pullError(daemon, first.name)) ?? '', /EDQUOT/);
  await assertNothingLeaked(daemon, files + 2);
  run('btrfs', ['qgroup', 'limit', 'none', graphRoot]);
  await assertWorksAgain(daemon);
});

test('a disk that became read-only refuses a pull and a removal, and lists what it has', async (t) => {
  const world = takenDownAfter(t);
  ext4Disk(world, 'read-only', 64 * 2 ** 20);
  const daemon = await start(world);
  const files = await warmUp(daemon);
  await pull(daemon, second.name);
  await assertNoLeftovers(graphRoot);
  run('mount', ['-o', 'remount,ro', folder]);
  assert.match((await pullError(daemon, first.name)) ?? '', /EROFS.*\/var\/lib\/containers\/storage/);
  await assert.rejects(remove(daemon, second.name), /EROFS/);
  const { images } = await daemon.client.image.listImages({});
  assert.deepEqual(
    images.flatMap(({ repoTags }) => repoTags),
    [second.name],
  );
  run('mount', ['-o', 'remount,rw', folder]);
  await assertNothingLeaked(daemon, files + 2);
  await assertWorksAgain(daemon);
});

test('a process without free descriptors refuses a pull, and takes it when it has some again', async (t) => {
  const world = takenDownAfter(t);
  ext4Disk(world, 'descriptors', 64 * 2 ** 20);
  const daemon = await start(world);
  const files = await warmUp(daemon);
  const [, soft = ''] = /^Max open files +(\d+)/m.exec(readFileSync(`/proc/${daemon.pid()}/limits`, 'utf8')) ?? [];
  const limit = (files: number): void => void run('prlimit', ['--pid', String(daemon.pid()), `--nofile=${files}:`]);
  const refused: string[] = [];
  for (const free of [1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24]) {
    limit(numberAfter(daemon, free));
    const error = await pullError(daemon, first.name);
    limit(Number(soft));
    if (error === undefined) await remove(daemon, first.name);
    else refused.push(error);
    await assertNothingLeaked(daemon, files + 4);
  }
  t.diagnostic([...new Set(refused)].join('\n'));
  assert.ok(refused.length > 0);
  for (const error of refused) assert.match(error, /EMFILE|too many open files/i);
  await assertWorksAgain(daemon);
});

/** The lowest number with so many unused ones below it: an open gets the lowest that is free. */
function numberAfter(daemon: Daemon, free: number): number {
  const used = new Set(readdirSync(`/proc/${daemon.pid()}/fd`).map(Number));
  let number = 0;
  for (let left = free; left > 0; number++) if (!used.has(number)) left -= 1;
  return number;
}

test('a disk that fails refuses a pull; the next start sets aside what cannot be read, and pulls it again', async (t) => {
  const world = takenDownAfter(t);
  const disk = ext4Disk(world, 'failing', 64 * 2 ** 20);
  const daemon = await start(world);
  await pull(daemon, second.name);
  run('sync', []);
  // The end of the disk is gone: whatever lies there, or is written there, gives EIO.
  const resize = (bytes: number): void => {
    truncateSync(disk.file, bytes);
    run('losetup', ['-c', disk.device]);
  };
  resize(6 * 2 ** 20);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  const error = (await pullError(daemon, first.name)) ?? '';
  assert.match(error, /"\/.*(?:EIO|EROFS)/, 'the path and the cause');
  t.diagnostic(error);
  await daemon.stop('SIGKILL');
  // The disk is repaired; what lay at its end is lost.
  resize(64 * 2 ** 20);
  run('umount', [folder]);
  run('e2fsck', ['-fy', disk.file], { allow: [1, 2, 3] });
  run('mount', ['-o', 'loop', disk.file, folder]);
  await daemon.restart('SIGKILL');
  await waitFor('a look at all images', 30_000, () =>
    daemon.log().includes('looked at the contents of all images') ? true : undefined,
  );
  for (const { name } of [second, first]) await pull(daemon, name);
  assert.deepEqual(await imageFaults(graphRoot), []);
});

mkdirSync(folder, { recursive: true });
