import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../fixtures/process.ts';
import type { Registry } from '../fixtures/registry.ts';
import { daemonFile, startDaemon } from '../run/daemon.ts';
import type { Daemon, DaemonOptions } from '../run/daemon.ts';
import { repository, stageFolder } from '../run/stage.ts';
import { crashImages, serveImages } from './images.ts';
import { ext4, mountLoop, removeFile, takenDownAfter, xfs } from './loop-disk.ts';
import { assertNoLeftovers, imageFaults, listedImages } from './whole-store.ts';

/**
 * A power cut at many moments of a pull: the store lies on ext4 whose device is a file on XFS, and the file is cloned at one
 * point in time. What ext4 had not written by then is not in the clone.
 */

const long = process.env['CRASH_LONG'] !== undefined;
const [first, second] = crashImages();
let registry: Registry;

before(async () => {
  registry = await serveImages([first, second]);
});
after(() => registry[Symbol.asyncDispose]());

interface Disks {
  readonly folder: string;
  readonly disk: string;
}

/** The journal is written each second: what is not synced gets to the disk in as many orders as possible. */
const mountOptions = 'commit=1';

function makeDisks(world: AsyncDisposableStack, name: string): Disks {
  const folder = join(stageFolder(), name);
  mkdirSync(folder);
  const file = `${folder}/xfs.img`;
  world.defer(() => removeFile(file));
  world.use(mountLoop({ file, mountPoint: `${folder}/xfs`, size: 4 * 2 ** 30, mkfs: xfs }));
  const disk = `${folder}/xfs/disk.img`;
  const size = 256 * 2 ** 20;
  world.use(mountLoop({ file: disk, mountPoint: '/var/lib/containers', size, mkfs: ext4, options: mountOptions }));
  return { folder, disk };
}

/** Clones the disk as often as it can until `work` has ended and a while after. Returns the clones, oldest first. */
async function cloneDuring({ disk }: Disks, work: Promise<unknown>, options: { afterMs: number }): Promise<string[]> {
  const clones: string[] = [];
  let endMs = Number.POSITIVE_INFINITY;
  const ended = work.finally(() => (endMs = performance.now() + options.afterMs));
  ended.catch(() => undefined);
  while (performance.now() < endMs && clones.length < 400) {
    const clone = `${disk}.${clones.length}`;
    run('cp', ['--reflink=always', disk, clone]);
    clones.push(clone);
    await sleep(clones.length % 3 === 0 ? 15 : 0);
  }
  await ended;
  return clones;
}

interface Cut {
  readonly clone: string;
  readonly faults: readonly string[];
  readonly images: readonly string[];
}

/** What there would be after the power came back. */
async function lookAt({ folder }: Disks, clone: string): Promise<Cut> {
  using mounted = mountLoop({ file: clone, mountPoint: `${folder}/clone` });
  const root = `${mounted.mountPoint}/storage`;
  const faults = await imageFaults(root);
  return { clone, faults, images: faults.length > 0 ? [] : listedImages(root) };
}

/** Pulls both images and deletes the first, on a new disk; the clones that were taken meanwhile. */
async function record(
  world: AsyncDisposableStack,
  disks: Disks,
  options: DaemonOptions,
  afterMs: number,
): Promise<string[]> {
  const daemon = world.use(await startDaemon({ logLevel: 'info', ...options }));
  const work = async () => {
    for (const { name } of [first, second]) {
      await daemon.client.image.pullImage({ image: { image: name } });
      await sleep(afterMs);
    }
    await daemon.client.image.removeImage({ image: { image: first.name } });
    await sleep(afterMs);
  };
  const clones = await cloneDuring(disks, work(), { afterMs });
  await daemon.stop('SIGKILL');
  return clones;
}

/** A few of the clones, spread over all. */
function some<T>(items: readonly T[], count: number): T[] {
  return Array.from(
    { length: count },
    (_, at) => items[Math.floor((at * (items.length - 1)) / Math.max(1, count - 1))],
  ).filter((item) => item !== undefined);
}

test('after a power cut at any moment of a pull, every image that is listed is whole', async (t) => {
  const world = takenDownAfter(t);
  const disks = makeDisks(world, 'cut');
  const clones = await record(world, disks, {}, long ? 3000 : 1200);
  const cuts: Cut[] = [];
  for (const clone of long ? clones : some(clones, 90)) cuts.push(await lookAt(disks, clone));
  assert.deepEqual(
    cuts.flatMap(({ clone, faults }) => faults.map((fault) => `${clone}: ${fault}`)),
    [],
  );
  const states = new Set(cuts.map(({ images }) => images.toSorted().join(' ')));
  t.diagnostic(`${clones.length} clones, ${cuts.length} looked at; states: ${[...states].join(' | ')}`);
  for (const state of ['', first.name, `${first.name} ${second.name}`, second.name])
    assert.ok(states.has(state), state);
  for (const cut of some(cuts, long ? 25 : 6)) await goOn(disks, cut);
});

/** The daemon starts on what the power cut left, and works; podman reads what it lists. */
async function goOn({ folder }: Disks, cut: Cut): Promise<void> {
  using mounted = mountLoop({ file: cut.clone, mountPoint: '/var/lib/containers' });
  await using daemon: Daemon = await startDaemon({ logLevel: 'info' });
  await assertNoLeftovers(`${mounted.mountPoint}/storage`);
  const names = async () => (await daemon.client.image.listImages({})).images.flatMap(({ repoTags }) => repoTags);
  assert.deepEqual((await names()).toSorted(), cut.images.toSorted());
  for (const name of cut.images) {
    run('podman', ['save', '--quiet', '--format', 'oci-archive', '-o', `${folder}/saved.tar`, name]);
    removeFile(`${folder}/saved.tar`);
  }
  for (const { name } of [first, second]) await daemon.client.image.pullImage({ image: { image: name } });
  assert.deepEqual((await names()).toSorted(), [first.name, second.name]);
  assert.deepEqual(await imageFaults(`${mounted.mountPoint}/storage`), []);
  await daemon.stop();
  run(daemonFile, ['check']);
}

test('the same disks show what is lost when nothing is synced', async (t) => {
  const program = join(repository, 'build/test/nosync');
  mkdirSync(join(program, '..'), { recursive: true });
  run('gcc', ['-O2', '-Wall', '-Wextra', '-o', program, join(import.meta.dirname, 'nosync.c')]);
  const world = takenDownAfter(t);
  const disks = makeDisks(world, 'unsynced');
  const clones = await record(world, disks, { wrapper: [program] }, 2500);
  const cuts: Cut[] = [];
  for (const clone of some(clones, 60)) cuts.push(await lookAt(disks, clone));
  const broken = cuts.filter(({ faults }) => faults.length > 0);
  t.diagnostic(
    `${broken.length} of ${cuts.length} power cuts leave a broken image, the first: ${broken[0]?.faults[0] ?? ''}`,
  );
  assert.ok(broken.length > 0);
});
