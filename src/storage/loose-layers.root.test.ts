import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { silentLog } from '../base/log.ts';
import { openStore } from './open-store.ts';
import type { Store } from './store.ts';
import { buildImage, newImage, storeImage, unpackLayers } from './testing/build-image.ts';
import type { TestImage } from './testing/build-image.ts';
import { removeWithMounts } from './testing/remove-with-mounts.ts';

/** Layers in the index that no image has: who deletes them, and when. */

const shared = [{ name: 'shared', data: 'x' }];
const image = buildImage([shared, [{ name: 'upper', data: 'y' }]]);
const sibling = buildImage([shared, [{ name: 'other', data: 'z' }]]);

interface World {
  readonly layersJson: string;
  readonly note: string;
  /** Of the records of images */
  readonly images: string;
  open(): Promise<Store>;
  /** Ids of the layers in the index */
  indexed(): readonly string[];
}

function setUp(t: TestContext): World {
  const base = mkdtempSync(`${tmpdir()}/loose-`);
  const opened: Store[] = [];
  t.after(async () => {
    for (const store of opened) await store[Symbol.asyncDispose]();
    removeWithMounts(base);
  });
  const layersJson = `${base}/root/overlay-layers/layers.json`;
  return {
    layersJson,
    note: `${base}/root/overlay-layers/crio-loose-layers`,
    images: `${base}/root/overlay-images`,
    indexed: () => JSON.parse(readFileSync(layersJson, 'utf8')).map(({ id }: { id: string }) => id),
    async open() {
      const roots = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
      const store = await openStore({ ...roots, driver: 'overlay', options: [], log: silentLog });
      opened.push(store);
      return store;
    },
  };
}

/** As a pull that is interrupted before it stores the image. */
async function addLayers(store: Store, of: TestImage): Promise<readonly string[]> {
  const ids = await unpackLayers(store, of);
  await store.layers.sync(ids.at(-1));
  return ids;
}

test('layers that an interrupted pull added are deleted by the next start, those below an image stay', async (t) => {
  const { open, indexed, note } = setUp(t);
  const store = await open();
  await storeImage(store, sibling, 'example.org/sibling');
  assert.equal(readFileSync(note, 'utf8').trim(), '', 'nothing is noted while every layer has an image');
  const before = indexed();
  await addLayers(store, image);
  assert.equal(indexed().length, 3);
  await store[Symbol.asyncDispose]();
  await open();
  assert.deepEqual(indexed(), before);
  assert.equal(readFileSync(note, 'utf8').trim(), '');
});

test('layers of a pull that goes on are not deleted by a second process, nor those of another program', async (t) => {
  const { open, indexed, note } = setUp(t);
  const daemon = await open();
  const ids = await addLayers(daemon, image);
  const check = await open();
  assert.deepEqual(indexed(), ids, 'the daemon still pulls');
  await check[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
  const [base = '', top = ''] = ids;
  writeFileSync(note, `\n${base}\nhalf a li`);
  const store = await open();
  assert.deepEqual(indexed(), ids, 'the upper layer is not ours, so the one below it stays');
  await store[Symbol.asyncDispose]();
  writeFileSync(note, `${top}\n`);
  await open();
  assert.deepEqual(indexed(), [base]);
});

test('data of an image that is being stored is not deleted by a second process, but by the next start', async (t) => {
  const { open, images } = setUp(t);
  const daemon = await open();
  const staged = `${images}/.tmp-0123456789abcdef`;
  mkdirSync(staged);
  const check = await open();
  assert.ok(existsSync(staged), 'the daemon still writes it');
  await check[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
  await open();
  assert.equal(existsSync(staged), false);
});

test('layers that are given up go at once, but not those that another pull works with', async (t) => {
  const { open, indexed, note } = setUp(t);
  const store = await open();
  const ids = await addLayers(store, image);
  const others = await unpackLayers(store, sibling);
  using _other = store.layers.hold(others);
  await store.layers.discard(ids);
  assert.deepEqual(indexed(), ids.slice(0, 1));
  await store.layers.sync(others.at(-1));
  await store.images.put(newImage(sibling, others.at(-1), 'example.org/sibling'));
  assert.equal(readFileSync(note, 'utf8').trim(), '');
});

test('layers that are given up stay when another program brought them, and so do those below one', async (t) => {
  const { open, indexed, note } = setUp(t);
  const [store, other] = [await open(), await open()];
  const ids = await addLayers(other, image);
  const below = await addLayers(store, sibling);
  assert.deepEqual(indexed(), [...ids, ...below.slice(1)]);
  assert.deepEqual(await unpackLayers(store, image), ids, 'nothing to unpack');
  await store.layers.discard(ids);
  await store.layers.discard(below);
  assert.deepEqual(indexed(), ids);
  assert.equal(readFileSync(note, 'utf8').trim(), '');
});

test('a layer that another program brought while we unpacked it stays when ours is given up', async (t) => {
  const { open, indexed } = setUp(t);
  const [store, other] = [await open(), await open()];
  const ids = await unpackLayers(store, image);
  const [base] = await addLayers(other, buildImage([shared]));
  assert.equal(base, ids[0]);
  await store.layers.sync(ids.at(-1));
  assert.deepEqual(indexed(), ids);
  await store.layers.discard(ids);
  assert.deepEqual(indexed(), [base]);
});

test('a look at the contents deletes layers without an image that are older than a day and have no name', async (t) => {
  const { open, indexed, note, layersJson } = setUp(t);
  const images = [image, buildImage([[{ name: 'named', data: 'n' }]]), buildImage([[{ name: 'new', data: 'n' }]])];
  let store = await open();
  for (const each of images) await addLayers(store, each);
  await store[Symbol.asyncDispose]();
  writeFileSync(note, '');
  const records: Record<string, unknown>[] = JSON.parse(readFileSync(layersJson, 'utf8'));
  for (const record of records.slice(0, 3)) record['created'] = '2026-01-02T03:04:05.678Z';
  Object.assign(records[2] ?? {}, { names: ['kept'] });
  writeFileSync(layersJson, JSON.stringify(records));
  store = await open();
  const look = (contents: boolean) => store.health.walk({ contents, signal: new AbortController().signal });
  await look(false);
  assert.equal(indexed().length, 4);
  await look(true);
  assert.deepEqual(
    indexed(),
    records.slice(2).map(({ id }) => id),
  );
});
