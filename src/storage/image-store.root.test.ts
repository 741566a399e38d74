import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { silentLog } from '../base/log.ts';
import { openStore } from './open-store.ts';
import { buildImage, newImage, storeImage } from './testing/build-image.ts';

test('an image that is stored under many names at once has them all, and all of its data', async (t) => {
  const base = mkdtempSync(`${tmpdir()}/image-store-`);
  t.after(() => rmSync(base, { recursive: true }));
  const folders = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
  await using store = await openStore({ ...folders, driver: 'overlay', options: [], log: silentLog });
  const image = buildImage([[{ name: 'f', data: 'x' }]]);
  await storeImage(store, image, 'example.org/first');
  const topLayer = (await store.images.find(image.id))?.topLayer;
  const names = Array.from({ length: 40 }, (_, index) => `example.org/name-${index}`);
  await Promise.all(names.map((name) => store.images.put(newImage(image, topLayer, name))));
  assert.deepEqual((await store.images.find(image.id))?.names.toSorted(), [...names, 'example.org/first'].toSorted());
  for (const { key, data } of newImage(image, topLayer, 'x').bigData)
    assert.deepEqual(await store.images.readBigData(image.id, key), data, key);
  const left = readdirSync(`${base}/root/overlay-images`).filter((name) => name.startsWith('.'));
  assert.deepEqual(left, []);
  assert.match(readFileSync(`${base}/root/overlay-images/images.json`, 'utf8'), /name-39/);
});

test('an image that is there is stored again without writing its data, unless a file of it is not as it was', async (t) => {
  const base = mkdtempSync(`${tmpdir()}/image-store-`);
  t.after(() => rmSync(base, { recursive: true }));
  const steps: string[] = [];
  const onStep = (name: string): void => void steps.push(name);
  const folders = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
  await using store = await openStore({ ...folders, driver: 'overlay', options: [], log: silentLog, onStep });
  const image = buildImage([[{ name: 'f', data: 'x' }]]);
  await storeImage(store, image, 'example.org/first');
  const topLayer = (await store.images.find(image.id))?.topLayer;
  const written = (): number => steps.filter((step) => step === 'image data written').length;
  const before = written();
  const { names } = await store.images.put(newImage(image, topLayer, 'example.org/second'));
  assert.deepEqual(names, ['example.org/second', 'example.org/first']);
  assert.equal(written(), before);
  const manifest = `${base}/root/overlay-images/${image.id}/manifest`;
  for (const damage of [() => writeFileSync(manifest, 'torn'), () => rmSync(manifest)]) {
    damage();
    await store.images.put(newImage(image, topLayer, 'example.org/second'));
    for (const { key, data } of newImage(image, topLayer, 'x').bigData)
      assert.deepEqual(await store.images.readBigData(image.id, key), data, key);
  }
  assert.equal(written(), before + 2);
});

test('an image that is removed while it gets another name is there with its data', async (t) => {
  const base = mkdtempSync(`${tmpdir()}/image-store-`);
  t.after(() => rmSync(base, { recursive: true }));
  const folders = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
  await using store = await openStore({ ...folders, driver: 'overlay', options: [], log: silentLog });
  const image = buildImage([]);
  let kept = 0;
  for (let round = 0; round < 20; round++) {
    await store.images.put(newImage(image, undefined, 'example.org/first'));
    await Promise.all([
      store.images.put(newImage(image, undefined, 'example.org/second')),
      store.images.delete(image.id),
      store.images.put(newImage(image, undefined, 'example.org/third')),
    ]);
    const found = await store.images.find(image.id);
    if (found === undefined) continue;
    kept += 1;
    for (const { key, data } of newImage(image, undefined, 'x').bigData)
      assert.deepEqual(await store.images.readBigData(image.id, key), data, `${round}: ${key}`);
  }
  assert.ok(kept > 0);
});
