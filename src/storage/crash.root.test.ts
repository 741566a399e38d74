import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLog } from '../base/log.ts';
import { acquireFileLock } from '../sys/lock.ts';
import { openStore } from './open-store.ts';
import type { Store } from './store.ts';
import { buildImage, layerIds, storeImage, writeLayout } from './testing/build-image.ts';
import { removeWithMounts } from './testing/remove-with-mounts.ts';

const rounds = 12;

function setUp(t: { after: (work: () => void) => void }): string {
  const base = mkdtempSync(`${tmpdir()}/store-crash-`);
  t.after(() => removeWithMounts(base));
  return base;
}

function open(base: string): Promise<Store> {
  const roots = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
  return openStore({ ...roots, driver: 'overlay', options: [], log: silentLog });
}

test('a store is whole again after its owner was killed at any moment', { timeout: 120_000 }, async (t) => {
  const base = setUp(t);
  for (let round = 0; round < rounds; round++) {
    const program = new URL('./testing/busy-store.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, [program, base], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    await new Promise((resolve) => child.stdout.once('data', resolve));
    await sleep(20 + Math.random() * 300);
    child.kill('SIGKILL');
    await exited;
    await using store = await open(base);
    await checkWhole(base, store);
  }
});

test('what a killed podman left of its pull is cleaned up', { timeout: 60_000 }, async (t) => {
  const base = mkdtempSync('/tmp/crio-podman-');
  t.after(() => removeWithMounts(base));
  const layers = [0, 1, 2].map((layer) =>
    Array.from({ length: 60 }, (_, at) => ({ name: `${layer}/${at}`, data: Buffer.alloc(40_000, `${layer}-${at}`) })),
  );
  writeLayout(buildImage(layers), `${base}/layout`);
  const flags = ['--root', `${base}/root`, '--runroot', `${base}/run`, '--storage-driver', 'overlay'];
  for (const ms of [60, 120, 180, 240, 300, 400]) {
    const child = spawn('podman', [...flags, 'pull', '-q', `oci:${base}/layout`], { stdio: 'ignore' });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    await sleep(ms);
    child.kill('SIGKILL');
    await exited;
    await using store = await open(base);
    await checkWhole(base, store);
    for (const { id } of await store.images.list()) await store.images.delete(id);
  }
});

/** Every record has its data, and nothing is there that has no record. */
async function checkWhole(base: string, store: Store): Promise<void> {
  const read = (path: string): { id: string; flags?: { incomplete?: boolean } }[] =>
    existsSync(`${base}/${path}`) ? JSON.parse(readFileSync(`${base}/${path}`, 'utf8') || '[]') : [];
  const layers = [...read('root/overlay-layers/layers.json'), ...read('root/overlay-layers/volatile-layers.json')];
  const ids = layers.map((layer) => layer.id).toSorted();
  const folders = readdirSync(`${base}/root/overlay`).filter((name) => name.length === 64);
  assert.deepEqual(folders.toSorted(), ids, 'layers');
  assert.equal(
    layers.some((layer) => layer.flags?.incomplete === true),
    false,
  );
  assert.equal(readdirSync(`${base}/root/overlay/l`).length, ids.length, 'short names');
  // What was found is deleted in the background.
  for (let wait = 0; wait < 100 && readdirSync(`${base}/root/overlay/tempdirs`).length > 0; wait++) await sleep(20);
  assert.deepEqual(readdirSync(`${base}/root/overlay/tempdirs`), []);
  for (const image of await store.images.list()) {
    assert.ok(await store.images.readBigData(image.id, 'manifest'));
    assert.ok((await store.images.size(image.id)) > 0);
  }
  for (const container of await store.containers.list()) {
    assert.ok(existsSync(store.containers.directory(container.id)));
    const root = await store.containers.mount(container.id);
    assert.equal(readdirSync(root).length > 0, container.imageId !== '');
    await store.containers.unmount(container.id);
  }
  const leftovers = ['overlay-images', 'overlay-containers', 'overlay-layers']
    .flatMap((folder) => readdirSync(`${base}/root/${folder}`))
    .filter((name) => name.startsWith('.tmp-'));
  assert.deepEqual(leftovers, []);
}

test('changes wait for another program that holds a lock, and reads and the event loop do not', async (t) => {
  const base = setUp(t);
  await using store = await open(base);
  const image = buildImage([[{ name: 'f', data: 'x' }]]);
  await storeImage(store, image, 'example.org/a');
  const held = await acquireFileLock(`${base}/root/overlay-layers/layers.lock`, 'write');
  const created = store.containers.create({
    id: 'c'.repeat(64),
    names: [],
    layerName: '',
    imageId: image.id,
    metadata: '',
    mountLabel: '',
    uidMap: [],
    gidMap: [],
  });
  const begin = performance.now();
  for (let round = 0; round < 10; round++) {
    assert.equal((await store.images.list()).length, 1);
    assert.equal((await store.containers.list()).length, 0);
    assert.ok(await store.layers.find(layerIds(store, image)[0] ?? ''));
  }
  assert.ok(performance.now() - begin < 100);
  assert.equal(await Promise.race([created.then(() => 'done'), sleep(100, 'waits')]), 'waits');
  held.release();
  await created;
});
