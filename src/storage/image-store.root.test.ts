import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { silentLog } from '../base/log.ts';
import { openStore } from './open-store.ts';
import type { NewImage, Store } from './store.ts';
import { buildImage, layerIds, newImage, pieces, storeImage, unpackLayers } from './testing/build-image.ts';

interface World {
  readonly images: string;
  open(): Promise<Store>;
  /** How often all data of an image was written. */
  written(): number;
  /** The next change ends there with an error. */
  failAt(step: string): void;
}

function openWorld(t: TestContext): World {
  const base = mkdtempSync(`${tmpdir()}/image-store-`);
  t.after(() => rmSync(base, { recursive: true }));
  let written = 0;
  let failing: string | undefined;
  const onStep = (name: string): void => {
    if (name === 'image data written') written += 1;
    if (name !== failing) return;
    failing = undefined;
    throw new Error(`failed at ${name}`);
  };
  const folders = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
  return {
    images: `${base}/root/overlay-images`,
    open: () => openStore({ ...folders, driver: 'overlay', options: [], log: silentLog, onStep }),
    written: () => written,
    failAt: (step) => (failing = step),
  };
}

async function assertData(store: Store, { id, bigData }: NewImage): Promise<void> {
  for (const { key, data } of bigData) assert.deepEqual(await store.images.readBigData(id, key), data, key);
}

test('an image that is stored under many names at once has them all, and its data, which is written once', async (t) => {
  const world = openWorld(t);
  await using store = await world.open();
  const image = buildImage([]);
  const names = Array.from({ length: 40 }, (_, index) => `example.org/name-${index}`);
  await Promise.all(names.map((name) => store.images.put(newImage(image, undefined, name))));
  assert.deepEqual((await store.images.find(image.id))?.names.toSorted(), names.toSorted());
  await assertData(store, newImage(image, undefined, 'x'));
  assert.equal(world.written(), 1);
  assert.deepEqual(hiddenIn(world.images), []);
  assert.match(readFileSync(`${world.images}/images.json`, 'utf8'), /name-39/);
});

function hiddenIn(folder: string): readonly string[] {
  return readdirSync(folder).filter((name) => name.startsWith('.'));
}

test('an image that is there is stored again without writing its data, unless a file of it is not as it was', async (t) => {
  const world = openWorld(t);
  await using store = await world.open();
  const image = buildImage([[{ name: 'f', data: 'x' }]]);
  await storeImage(store, image, 'example.org/first');
  const topLayer = (await store.images.find(image.id))?.topLayer;
  const before = world.written();
  const { names } = await store.images.put(newImage(image, topLayer, 'example.org/second'));
  assert.deepEqual(names, ['example.org/second', 'example.org/first']);
  assert.equal(world.written(), before);
  const manifest = `${world.images}/${image.id}/manifest`;
  for (const damage of [() => writeFileSync(manifest, 'torn'), () => rmSync(manifest)]) {
    damage();
    await store.images.put(newImage(image, topLayer, 'example.org/second'));
    await assertData(store, newImage(image, topLayer, 'x'));
  }
  assert.equal(world.written(), before + 2);
});

test('a record that does not say what its files are is written anew', async (t) => {
  const world = openWorld(t);
  const image = buildImage([]);
  const wanted = newImage(image, undefined, 'example.org/a');
  {
    await using store = await world.open();
    await store.images.put(wanted);
  }
  const index = `${world.images}/images.json`;
  const text = readFileSync(index, 'utf8');
  const changed = text.replace(/("manifest":\s*")sha256:[0-9a-f]+"/, `$1sha256:${'0'.repeat(64)}"`);
  assert.notEqual(changed, text);
  writeFileSync(index, changed);
  await using store = await world.open();
  await store.images.put(wanted);
  const { digest } = wanted.bigData.find(({ key }) => key === 'manifest') ?? {};
  assert.equal((await store.images.find(image.id))?.bigDataDigests.get('manifest'), digest);
});

test('an image that is there takes a name from the one that has it', async (t) => {
  const world = openWorld(t);
  await using store = await world.open();
  const [image, other] = [buildImage([]), buildImage([], ['/other'])];
  await store.images.put(newImage(image, undefined, 'example.org/a'));
  await store.images.put(newImage(other, undefined, 'example.org/b'));
  await store.images.put(newImage(image, undefined, 'example.org/b'));
  assert.equal(world.written(), 2);
  assert.deepEqual((await store.images.find(image.id))?.names, ['example.org/b', 'example.org/a']);
  assert.deepEqual((await store.images.find(other.id))?.names, []);
});

test('an image that is removed while it gets another name is there with its data', async (t) => {
  await using store = await openWorld(t).open();
  const image = buildImage([]);
  let kept = 0;
  for (let round = 0; round < 20; round++) {
    await store.images.put(newImage(image, undefined, 'example.org/first'));
    await Promise.all([
      store.images.put(newImage(image, undefined, 'example.org/second')),
      store.images.delete(image.id),
      store.images.put(newImage(image, undefined, 'example.org/third')),
    ]);
    if ((await store.images.find(image.id)) === undefined) continue;
    kept += 1;
    await assertData(store, newImage(image, undefined, 'x'));
  }
  assert.ok(kept > 0);
});

for (const [what, after] of [
  ['was stored again', async (store: Store, again: NewImage) => void (await store.images.put(again))],
  ['was removed', async (store: Store, { id }: NewImage) => void (await store.images.delete(id))],
  ['had lost the name', () => Promise.resolve()],
] as const) {
  test(`an update that failed is not finished over what was stored once its image ${what}`, async (t) => {
    const world = openWorld(t);
    const [image, other] = [buildImage([]), buildImage([], ['/other'])];
    for (const step of ['image update prepared', 'image data in place']) {
      await using store = await world.open();
      await store.images.put(newImage(image, undefined, 'example.org/first'));
      writeFileSync(`${world.images}/${image.id}/manifest`, 'torn');
      world.failAt(step);
      const again = newImage(image, undefined, 'example.org/moving');
      await assert.rejects(store.images.put(again), { message: new RegExp(step) });
      await after(store, again);
      await store.images.put(newImage(other, undefined, 'example.org/moving'));
      await store[Symbol.asyncDispose]();
      await using next = await world.open();
      assert.equal((await next.images.find('example.org/moving'))?.id, other.id);
      await next.images.put(newImage(image, undefined, 'example.org/third'));
      await assertData(next, newImage(image, undefined, 'x'));
      assert.deepEqual(hiddenIn(world.images), []);
    }
  });
}

test('a name that was taken away after an update that failed does not come back with it', async (t) => {
  const world = openWorld(t);
  const image = buildImage([]);
  {
    await using store = await world.open();
    for (const name of ['example.org/kept', 'example.org/gone', 'example.org/gone-elsewhere'])
      await store.images.put(newImage(image, undefined, name));
    writeFileSync(`${world.images}/${image.id}/manifest`, 'torn');
    world.failAt('image update prepared');
    const addNames = ['example.org/gone', 'example.org/gone-elsewhere', 'example.org/new'];
    const again = { ...newImage(image, undefined, ''), addNames };
    await assert.rejects(store.images.put(again), { message: /image update prepared/ });
    await store.images.changeNames(image.id, (names) => names.filter((name) => name !== 'example.org/gone'));
  }
  // As another program takes one away.
  const index = `${world.images}/images.json`;
  const [record] = JSON.parse(readFileSync(index, 'utf8'));
  record.names = ['example.org/kept'];
  writeFileSync(index, JSON.stringify([record]));
  await using next = await world.open();
  assert.deepEqual((await next.images.find(image.id))?.names, ['example.org/new', 'example.org/kept']);
  await assertData(next, newImage(image, undefined, 'x'));
});

test('an update that fails over one that failed takes its place, and is finished whole at the next start', async (t) => {
  const world = openWorld(t);
  const image = buildImage([]);
  {
    await using store = await world.open();
    await store.images.put(newImage(image, undefined, 'example.org/first'));
    writeFileSync(`${world.images}/${image.id}/manifest`, 'torn');
    for (const [step, name] of [
      ['image data in place', 'example.org/second'],
      ['image update prepared', 'example.org/third'],
    ] as const) {
      world.failAt(step);
      await assert.rejects(store.images.put(newImage(image, undefined, name)), { message: new RegExp(step) });
    }
    rmSync(`${world.images}/${image.id}/manifest`);
  }
  await using next = await world.open();
  assert.deepEqual((await next.images.find(image.id))?.names, ['example.org/third', 'example.org/first']);
  await assertData(next, newImage(image, undefined, 'x'));
  assert.deepEqual(hiddenIn(world.images), []);
});

test('names are taken away from those an image has then, and with a new one it is not deleted', async (t) => {
  await using store = await openWorld(t).open();
  const image = buildImage([]);
  const withoutA = (names: readonly string[]): readonly string[] => names.filter((name) => name !== 'example.org/a');
  await store.images.put(newImage(image, undefined, 'example.org/a'));
  assert.equal(await store.images.changeNames(image.id, withoutA), false);
  assert.deepEqual((await store.images.find(image.id))?.names, ['example.org/a']);
  await store.images.put(newImage(image, undefined, 'example.org/b'));
  assert.equal(await store.images.delete(image.id, withoutA), false);
  assert.equal(await store.images.changeNames(image.id, withoutA), true);
  assert.deepEqual((await store.images.find(image.id))?.names, ['example.org/b']);
  assert.equal(await store.images.delete(image.id, () => []), true);
  assert.equal(await store.images.find(image.id), undefined);
});

test('a container is not made over a layer that is unpacked but not stored', async (t) => {
  const world = openWorld(t);
  await using store = await world.open();
  const image = buildImage([[{ name: 'f', data: 'x' }]]);
  await storeImage(store, image, 'example.org/a');
  const topLayer = (await store.images.find(image.id))?.topLayer ?? '';
  // As another program removes it; a pull has brought it again, and is not done.
  writeFileSync(`${dirname(world.images)}/overlay-layers/layers.json`, '[]');
  rmSync(`${dirname(world.images)}/overlay/${topLayer}`, { recursive: true });
  await unpackLayers(store, image);
  assert.ok((await store.layers.find(topLayer)) !== undefined);
  const container = { id: 'c'.repeat(64), names: ['c'], layerName: 'c-layer', imageId: image.id };
  const settings = { metadata: '', mountLabel: '', uidMap: [], gidMap: [] };
  await assert.rejects(
    store.containers.create({ ...container, ...settings }),
    /^CrioError: layer ".*" is not in storage$/,
  );
});

test('an image is not stored over a layer that is unpacked but not stored', async (t) => {
  await using store = await openWorld(t).open();
  const image = buildImage([[{ name: 'lower', data: 'x' }], [{ name: 'upper', data: 'y' }]]);
  const [lower, top = ''] = layerIds(store, image);
  const [, upper] = image.layers;
  assert.ok(upper !== undefined);
  // The lower one is still on its way, so this one waits for it.
  const signal = new AbortController().signal;
  await store.layers.unpack({
    parent: lower,
    diffId: upper.diffId,
    blobDigest: upper.blobDigest,
    blobSize: upper.blob.length,
    blob: pieces(upper.blob),
    signal,
  });
  await assert.rejects(store.images.put(newImage(image, top, 'example.org/a')), {
    kind: 'failed-precondition',
    message: /layer ".*" is not in storage$/,
  });
  assert.equal(await store.images.find(image.id), undefined);
});
