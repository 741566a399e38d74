import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../base/log.ts';
import type { ImageRecord } from '../storage/store.ts';
import { Catalog } from './catalog.ts';
import { digestOf } from './digest.ts';
import { createFakeStore } from './testing/fake-store.ts';

const config = Buffer.from(
  JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } }),
);
const name = 'docker.io/library/a:1';

async function storeWithImage() {
  const store = createFakeStore('/graph');
  const digest = digestOf(config);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: config.length },
      layers: [],
    }),
  );
  await store.images.put({
    id: digest.slice('sha256:'.length),
    digest: digestOf(manifest),
    addNames: [name],
    topLayer: undefined,
    createdNs: 0n,
    metadata: '{}',
    bigData: [
      { key: digest, data: config, digest },
      { key: 'manifest', data: manifest, digest: digestOf(manifest) },
    ],
  });
  return store;
}

test('an image whose data was gone for a moment is back as soon as its record is read again', async () => {
  const store = await storeWithImage();
  let isGone = true;
  const readBigData: typeof store.images.readBigData = async (id, key) =>
    isGone ? undefined : store.images.readBigData(id, key);
  // Another program writes the index: the same record, read anew.
  const list = async () => (await store.images.list()).map((record): ImageRecord => ({ ...record }));
  const images = { ...store.images, list, readBigData };
  const catalog = new Catalog({ store: { ...store, images }, log: silentLog, isPinned: () => false });
  assert.deepEqual((await catalog.snapshot()).images, []);
  isGone = false;
  assert.deepEqual(
    (await catalog.snapshot()).images.map(({ repoTags }) => repoTags),
    [[name]],
  );
});

test('of two images with one name, our own is found, not that of an additional store', async () => {
  const store = await storeWithImage();
  const [own] = await store.images.list();
  assert.ok(own);
  const shared: ImageRecord = { ...own, id: 'b'.repeat(64), isReadOnly: true };
  const readBigData: typeof store.images.readBigData = (_, key) => store.images.readBigData(own.id, key);
  const images = { ...store.images, list: async () => [own, shared], readBigData };
  const catalog = new Catalog({ store: { ...store, images }, log: silentLog, isPinned: () => false });
  const snapshot = await catalog.snapshot();
  assert.deepEqual(
    snapshot.images.map(({ id, pinned }) => [id, pinned]),
    [
      [own.id, false],
      [shared.id, true],
    ],
  );
  const reference = { domain: 'docker.io', path: 'library/a', tag: '1', digest: undefined };
  assert.equal(snapshot.byReference(reference)?.id, own.id);
});
