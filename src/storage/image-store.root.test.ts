import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
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
