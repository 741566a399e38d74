import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, mock } from 'node:test';
import { defaultConfig } from '../config/config.ts';
import { digestOf } from './digest.ts';
import { findImage, findRecord, indexOf } from './find-image.ts';
import { openBench, testCall } from './testing/bench.ts';
import { putImage } from './testing/fake-registry.ts';

describe('find and remove', () => {
  it('finds by id, prefix, name and digest; unknown is undefined; bad names are errors', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const image = putImage(registry, 'a', '1');
    await bench.pull(`${registry.host}/a:1`);
    for (const name of [
      image.id,
      image.id.slice(0, 3),
      `sha256:${image.id}`,
      `${registry.host}/a:1`,
      `${registry.host}/a@${image.manifestDigest}`,
      `${registry.host}/a:x@${image.manifestDigest}`,
    ]) {
      assert.equal((await images.find(name))?.id, image.id, name);
    }
    for (const name of [
      'r.io/none',
      `${registry.host}/a:2`,
      `${registry.host}/b@${image.manifestDigest}`,
      'f'.repeat(64),
    ])
      assert.equal(await images.find(name), undefined, name);
    await assert.rejects(images.find('Not A Name'), { kind: 'invalid' });
    await assert.rejects(images.find(''), { message: 'no image specified' });
  });

  it('takes three digits for the beginning of an id, and two for a name', async () => {
    await using bench = await openBench();
    const { registry, images, store } = bench;
    const { id } = putImage(registry, 'a', '1');
    await bench.pull(`${registry.host}/a:1`);
    const [image, record] = [await images.find(id), await store.images.find(id)];
    assert.ok(image !== undefined && record !== undefined);
    for (const digits of [2, 3]) {
      const resolved: string[] = [];
      const resolve = (name: string) => {
        resolved.push(name);
        return [];
      };
      const text = id.slice(0, digits);
      const inIndex: string | undefined = findImage(indexOf([image]), text, resolve)?.image.id;
      const inRecords: string | undefined = findRecord([record], text, resolve)?.record.id;
      const want = digits === 3 ? id : undefined;
      assert.deepEqual([inIndex, inRecords], [want, want]);
      assert.deepEqual(resolved, digits === 3 ? [] : [text, text]);
    }
  });

  it('untags, and deletes with the last name or by id', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const layers = [Buffer.from('same')];
    const image = putImage(registry, 'a', '1', { layers });
    putImage(registry, 'a', '2', { layers });
    putImage(registry, 'b', '1', { layers });
    const names = ['a:1', 'a:2', 'b:1'].map((name) => `${registry.host}/${name}`);
    for (const name of names) await bench.pull(name);
    assert.deepEqual((await images.find(image.id))?.repoTags, names);
    assert.equal((await images.find(image.id))?.repoDigests.length, 2);
    await images.remove(testCall, names[0] ?? '');
    assert.deepEqual((await images.find(image.id))?.repoTags, names.slice(1));
    await images.remove(testCall, names[0] ?? '');
    await images.remove(testCall, names[1] ?? '');
    await images.remove(testCall, names[2] ?? '');
    assert.deepEqual(await images.list(), []);
    for (const name of names) await bench.pull(name);
    await images.remove(testCall, image.id);
    assert.deepEqual(await images.list(), []);
  });

  it('pins the pause image and what is configured, also after a reload', async () => {
    await using bench = await openBench({ image: () => ({ pinnedImages: ['*PINNED*'] }) });
    const { registry, images } = bench;
    putImage(registry, 'a/pinned', '1', { layers: [Buffer.from('1')] });
    putImage(registry, 'a/other', '1', { layers: [Buffer.from('2')] });
    await bench.pull(`${registry.host}/a/pinned:1`);
    await bench.pull(`${registry.host}/a/other:1`);
    const pinned = async () => (await images.list()).filter((image) => image.pinned).flatMap((image) => image.repoTags);
    assert.deepEqual(await pinned(), [`${registry.host}/a/pinned:1`]);
    await images.reload({ image: { ...defaultConfig().image, pauseImage: `${registry.host}/a/other:1` } });
    assert.deepEqual(await pinned(), [`${registry.host}/a/other:1`]);
  });

  it('pins the pause image however it is written', async () => {
    await using bench = await openBench({
      toml: (host) =>
        `unqualified-search-registries = ["${host}"]\n[aliases]\n"short" = "${host}/k8s/pause"\n[[registry]]\nlocation = "${host}"\ninsecure = true\n`,
    });
    const { registry, images, dir } = bench;
    const { manifestDigest } = putImage(registry, 'k8s/pause', 'latest');
    putImage(registry, 'k8s/other', 'latest');
    await bench.pull(`${registry.host}/k8s/pause`);
    await bench.pull(`${registry.host}/k8s/other`);
    const pinned = async () => (await images.list()).filter((image) => image.pinned).flatMap((image) => image.repoTags);
    const want = [`${registry.host}/k8s/pause:latest`];
    for (const written of [
      `${registry.host}/k8s/pause`,
      `${registry.host}/k8s/pause:1@${manifestDigest}`,
      `${registry.host}/k8s/pause@${manifestDigest}`,
      'k8s/pause',
      'short',
      `short:1@${manifestDigest}`,
    ]) {
      await images.reload({ image: { ...defaultConfig().image, pauseImage: written } });
      assert.deepEqual(await pinned(), want, written);
    }
    await images.reload({ image: { ...defaultConfig().image, pauseImage: 'later' } });
    assert.deepEqual(await pinned(), []);
    await writeFile(join(dir, 'registries.conf.d/a.conf'), `[aliases]\n"later" = "${registry.host}/k8s/pause"\n`);
    await images.reload({ image: { ...defaultConfig().image, pauseImage: 'later' } });
    assert.deepEqual(await pinned(), want);
    await writeFile(join(dir, 'registries.conf.d/a.conf'), 'unqualified-search-registries = []\n');
    await images.reload({ image: { ...defaultConfig().image, pauseImage: 'later' } });
    assert.deepEqual(await pinned(), []);
  });

  it('lists 500 images again without reading anything of them', async () => {
    await using bench = await openBench();
    const { store, images } = bench;
    for (let index = 0; index < 500; index += 1) {
      const config = Buffer.from(
        JSON.stringify({ architecture: 'amd64', os: 'linux', index, config: {}, rootfs: { diff_ids: [] } }),
      );
      const digest = digestOf(config);
      await store.images.put({
        id: digest.slice(7),
        digest,
        addNames: [`r.io/i${index}:1`],
        topLayer: undefined,
        createdNs: 1n,
        metadata: '{}',
        bigData: [{ key: digest, data: config, digest }],
      });
    }
    assert.equal((await images.list()).length, 500);
    const read = mock.method(store.images, 'readBigData');
    assert.equal((await images.list()).length, 500);
    assert.equal(read.mock.callCount(), 0);
  });
});
