import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { silentLog } from '../base/log.ts';
import { mount } from '../sys/mount.ts';
import { openStore } from './open-store.ts';
import type { Store } from './store.ts';
import { buildImage, layerIds, storeImage, writeLayout } from './testing/build-image.ts';
import { removeWithMounts } from './testing/remove-with-mounts.ts';

/** A graph root that gets an image store, on another disk, when it has images already; podman knows the graph root alone. */
interface World {
  readonly base: string;
  /** Of all images in the graph root */
  podmanNames(): readonly string[];
  podman(...args: readonly string[]): string;
  open(options?: { imageStore: boolean }): Promise<Store>;
}

function setUp(t: TestContext): World {
  // podman takes the path for a name, in lower case.
  const base = `/var/tmp/roots-${randomBytes(4).toString('hex')}`;
  const opened: Store[] = [];
  t.after(async () => {
    for (const store of opened) await store[Symbol.asyncDispose]();
    removeWithMounts(base);
  });
  mkdirSync(`${base}/images`, { recursive: true });
  mount('images', `${base}/images`, 'tmpfs', 0, 'mode=0700');
  const roots = ['--root', `${base}/root`, '--runroot', `${base}/run`, '--storage-driver', 'overlay'];
  const podman = (...args: readonly string[]) =>
    execFileSync('podman', [...roots, '--tmpdir', `${base}/libpod`, '--events-backend', 'none', ...args], {
      encoding: 'utf8',
    });
  return {
    base,
    podman,
    podmanNames: () =>
      podman('images', '--all', '--format', '{{.Repository}}:{{.Tag}}').split('\n').filter(Boolean).toSorted(),
    async open({ imageStore } = { imageStore: true }) {
      const store = await openStore({
        graphRoot: `${base}/root`,
        runRoot: `${base}/run`,
        imageStore: imageStore ? `${base}/images` : '',
        driver: 'overlay',
        options: [],
        log: silentLog,
      });
      opened.push(store);
      return store;
    },
  };
}

const shared = [
  { name: 'etc/', type: '5' },
  { name: 'etc/a', data: 'base' },
];
const old = buildImage([shared, [{ name: 'etc/b', data: 'old' }]]);
const unused = buildImage([shared, [{ name: 'etc/b', data: 'unused' }]]);
const fresh = buildImage([shared, [{ name: 'etc/b', data: 'fresh' }]]);

const namesOf = async (store: Store) => (await store.images.list()).flatMap(({ names }) => names).toSorted();
const namesIn = (path: string): string[] =>
  JSON.parse(readFileSync(path, 'utf8')).flatMap(({ names = [] }: { names?: string[] }) => names);

async function readFromContainer(store: Store, imageId: string): Promise<string> {
  const id = 'c'.repeat(64);
  const container = { id, names: [], layerName: '', imageId, metadata: '', mountLabel: '', uidMap: [], gidMap: [] };
  await store.containers.create(container);
  const content = readFileSync(`${await store.containers.mount(id)}/etc/b`, 'utf8');
  await store.containers.delete(id);
  return content;
}

test('images of the graph root are used, renamed and deleted where they are when an image store is set', async (t) => {
  const { base, open, podman, podmanNames } = setUp(t);
  writeLayout(unused, `${base}/layout`);
  podman('pull', '-q', `oci:${base}/layout`);
  podman('tag', unused.id, 'example.org/unused:1');
  let store = await open({ imageStore: false });
  await storeImage(store, old, 'example.org/old:1');
  await store[Symbol.asyncDispose]();
  const before = podmanNames();
  assert.ok(before.includes('example.org/old:1') && before.includes('example.org/unused:1'));

  store = await open();
  assert.deepEqual(await namesOf(store), before);
  await storeImage(store, fresh, 'example.org/fresh:1');
  assert.deepEqual(namesIn(`${base}/images/overlay-images/images.json`), ['example.org/fresh:1']);
  assert.deepEqual(await store.images.readBigData(old.id, 'manifest'), old.manifest);
  for (const [image, content] of [
    [old, 'old'],
    [fresh, 'fresh'],
  ] as const)
    assert.equal(await readFromContainer(store, image.id), content);
  await storeImage(store, old, 'example.org/old:2');
  assert.deepEqual(podmanNames(), [...before, 'example.org/old:2'].toSorted());
  podman('tag', old.id, 'example.org/old:3');
  assert.ok((await namesOf(store)).includes('example.org/old:3'), 'what podman does is seen');

  // As long as no image can be seen that has them, old layers look like rubbish.
  ageLayers(`${base}/root/overlay-layers/layers.json`);
  await store.health.walk({ contents: true, signal: new AbortController().signal });
  for (const id of layerIds(store, old)) assert.ok(existsSync(`${base}/root/overlay/${id}/diff`));

  await store.images.delete(unused.id);
  assert.deepEqual(podmanNames(), ['example.org/old:1', 'example.org/old:2', 'example.org/old:3']);
  assert.equal(existsSync(`${base}/root/overlay-images/${unused.id}`), false);
  assert.equal(existsSync(`${base}/root/overlay/${layerIds(store, unused)[1]}`), false);
  await store[Symbol.asyncDispose]();
  store = await open();
  assert.equal(await readFromContainer(store, old.id), 'old');
  await store.images.delete(old.id);
  assert.deepEqual(podmanNames(), []);
  assert.deepEqual(await namesOf(store), ['example.org/fresh:1']);
  assert.equal(await readFromContainer(store, fresh.id), 'fresh');
});

test('what layers take is counted for the root where they lie', async (t) => {
  const { open } = setUp(t);
  const [base, top] = old.layers.map(({ tar }) => tar.length);
  const bytes = async (of: Store) => {
    const { imageRoot, graphRoot } = await of.layers.usage();
    return [imageRoot.bytes, graphRoot.bytes];
  };
  let store = await open({ imageStore: false });
  await storeImage(store, old, 'example.org/old:1');
  const before = await store.layers.usage();
  assert.deepEqual(before.graphRoot, { bytes: 0, inodes: 0 });
  assert.ok(before.imageRoot.inodes > 0);
  await store[Symbol.asyncDispose]();

  store = await open();
  assert.deepEqual(await store.layers.usage(), { imageRoot: before.graphRoot, graphRoot: before.imageRoot });
  await storeImage(store, fresh, 'example.org/fresh:1');
  assert.deepEqual(await bytes(store), [fresh.layers[1]?.tar.length, Number(base) + Number(top)]);
  await store.images.delete(old.id);
  assert.deepEqual(await bytes(store), [fresh.layers[1]?.tar.length, base], 'the new image has the layer of both');
});

function ageLayers(index: string): void {
  const records: object[] = JSON.parse(readFileSync(index, 'utf8'));
  writeFileSync(index, JSON.stringify(records.map((record) => ({ ...record, created: '2024-01-02T03:04:05Z' }))));
}

test('an image that both roots have is one, and goes from both', async (t) => {
  const { base, open, podmanNames } = setUp(t);
  let store = await open({ imageStore: false });
  await storeImage(store, old, 'example.org/old:1');
  await store[Symbol.asyncDispose]();
  cpSync(`${base}/root/overlay-images`, `${base}/images/overlay-images`, { recursive: true });
  store = await open();
  assert.deepEqual(await namesOf(store), ['example.org/old:1']);
  await storeImage(store, fresh, 'example.org/fresh:1');
  await store.images.changeNames(old.id, () => ['example.org/old:2']);
  await store[Symbol.asyncDispose]();
  const indexes = [`${base}/root/overlay-images/images.json`, `${base}/images/overlay-images/images.json`];
  for (const index of indexes) assert.ok(readFileSync(index, 'utf8').includes(old.id), 'none is lost');
  store = await open();
  await store.images.delete(old.id);
  for (const index of indexes) assert.equal(readFileSync(index, 'utf8').includes(old.id), false);
  const folders = [`${base}/root/overlay-images`, `${base}/images/overlay-images`];
  for (const folder of folders) assert.equal(readdirSync(folder).includes(old.id), false);
  assert.deepEqual([await namesOf(store), podmanNames()], [['example.org/fresh:1'], []]);
});

test('an image that both roots have under other names has all of them, until they are taken away', async (t) => {
  const { base, open, podmanNames, podman } = setUp(t);
  const index = `${base}/images/overlay-images/images.json`;
  let store = await open({ imageStore: false });
  await storeImage(store, old, 'example.org/new:1');
  await store[Symbol.asyncDispose]();
  cpSync(`${base}/root/overlay-images`, `${base}/images/overlay-images`, { recursive: true });
  podman('tag', old.id, 'example.org/old:1', 'example.org/old:2');
  podman('untag', old.id, 'example.org/new:1');

  store = await open();
  assert.deepEqual(await namesOf(store), ['example.org/new:1', 'example.org/old:1', 'example.org/old:2']);
  for (const name of await namesOf(store)) assert.equal((await store.images.find(name))?.id, old.id);
  await store.images.changeNames(old.id, (names) => [...names, 'example.org/added:1']);
  assert.deepEqual(podmanNames(), ['example.org/added:1', 'example.org/old:1', 'example.org/old:2']);
  podman('untag', old.id, 'example.org/old:2');
  assert.deepEqual(await namesOf(store), ['example.org/added:1', 'example.org/new:1', 'example.org/old:1']);

  await storeImage(store, fresh, 'example.org/new:1');
  assert.equal((await store.images.find('example.org/new:1'))?.id, fresh.id);
  assert.ok((await store.images.find(old.id))?.namesHistory.includes('example.org/new:1'));
  await store.images.changeNames(old.id, () => ['example.org/old:1']);
  await store[Symbol.asyncDispose]();
  assert.deepEqual([podmanNames(), namesIn(index)], [['example.org/old:1'], ['example.org/new:1']]);
  store = await open();
  assert.deepEqual(await namesOf(store), ['example.org/new:1', 'example.org/old:1']);
  assert.equal((await store.images.find('example.org/new:1'))?.id, fresh.id);
});
