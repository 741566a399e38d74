import assert from 'node:assert/strict';
import { lstatSync, readdirSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { busybox, createContainer, ensureImage, removePod, runContainer, runPod, waitFor } from '../client/pods.ts';
import { buildImages, type ImageDigests } from '../fixtures/build.ts';
import { pauseImageName } from '../fixtures/images.ts';
import { write } from '../run/node-files.ts';
import { failureOf, useDaemon } from './environment.ts';
import { podmanOk, preparePodman } from './podman.ts';

const formats = (tag: string): string => `docker.io/library/formats:${tag}`;
const criTools = (name: string): string => `gcr.io/k8s-staging-cri-tools/${name}`;
const pins = [formats('plain'), 'docker.io/library/formats:zs*', '*IMAGE-1*'];
const node = useDaemon({ config: `[crio.image]\npinned_images = ${JSON.stringify(pins)}\n` });
let digests: ImageDigests;
before(async () => {
  preparePodman();
  digests = (await buildImages('test')).digests;
});

async function status(image: string) {
  return (await node.client.image.imageStatus({ image: { image } })).image;
}

describe('names', () => {
  test('an image has its config digest as id, sorted tags, and each repository with each digest', async () => {
    const { client } = node;
    const names = ['3', '1', '2'].map((tag) => criTools(`test-image-tags:${tag}`));
    for (const image of names) await client.image.pullImage({ image: { image } });
    const image = await status(names[0] ?? '');
    assert.match(image?.id ?? '', /^[0-9a-f]{64}$/);
    assert.deepEqual(image?.repoTags, names.toSorted(compare));
    assert.deepEqual(image.repoDigests, [`${criTools('test-image-tags')}@${digests[names[0] ?? ''] ?? ''}`]);
    assert.equal((await podmanOk('image', 'inspect', '--format', '{{.Id}}', names[0] ?? '')).trim(), image.id);
  });

  test('is found by id, prefix, name, digest and short name', async () => {
    const name = criTools('test-image-tags:1');
    const image = await status(name);
    const id = image?.id ?? '';
    for (const asked of [id, id.slice(0, 12), `sha256:${id}`, name, image?.repoDigests[0] ?? '', `docker://${name}`])
      assert.equal((await status(asked))?.id, id, asked);
    await ensureImage(node.client, formats('plain'));
    assert.equal((await status('library/formats:plain'))?.id, (await status(formats('plain')))?.id);
    assert.equal((await status('formats:plain'))?.id, (await status(formats('plain')))?.id);
  });

  test('what is unknown is an empty answer, what is no name an error', async () => {
    const { client } = node;
    for (const image of ['docker.io/library/nothere:1', 'abc123', 'f'.repeat(64), 'nothere']) {
      const { image: found, info } = await client.image.imageStatus({ image: { image }, verbose: true });
      assert.deepEqual([found, info], [undefined, {}], image);
    }
    assert.equal((await failureOf(client.image.imageStatus({ image: { image: '' } }))).details, 'no image specified');
    assert.equal((await failureOf(client.image.imageStatus({}))).details, 'no image specified');
    assert.match(
      (await failureOf(client.image.imageStatus({ image: { image: 'docker.io/library/Upper:1' } }))).details,
      /Upper/,
    );
  });

  test('a filter is a single look-up, in ListImages and in StreamImages', async () => {
    const { client } = node;
    const name = criTools('test-image-tags:2');
    const id = (await status(name))?.id;
    for (const asked of [name, id ?? '', 'docker.io/library/nothere:1']) {
      const filter = { image: { image: asked } };
      const { images } = await client.image.listImages({ filter });
      assert.deepEqual(
        images.map((image) => image.id),
        asked.includes('nothere') ? [] : [id],
      );
      assert.deepEqual(await streamed(filter), images);
    }
    const { images } = await client.image.listImages({});
    assert.ok(images.length >= 3);
    assert.deepEqual(await streamed(), images);
  });
});

async function streamed(filter?: { image: { image: string } }) {
  const images = [];
  for await (const part of node.client.image.streamImages(filter === undefined ? {} : { filter }))
    images.push(...part.images);
  return images;
}

describe('removal', () => {
  test('takes the names one by one, and the image with the last', async () => {
    const { client } = node;
    const names = ['1', '2', '3'].map((tag) => criTools(`test-image-tags:${tag}`));
    for (const image of names) await client.image.pullImage({ image: { image } });
    const id = (await status(names[0] ?? ''))?.id ?? '';
    for (const [index, image] of names.entries()) {
      await client.image.removeImage({ image: { image } });
      assert.deepEqual((await status(id))?.repoTags, index === 2 ? undefined : names.slice(index + 1));
    }
    await client.image.removeImage({ image: { image: id } });
    await client.image.removeImage({ image: { image: names[0] ?? '' } });
    assert.equal((await failureOf(client.image.removeImage({ image: { image: '' } }))).details, 'no image specified');
  });

  test('is refused while a container uses the image, by id and by its last name', async () => {
    const { client } = node;
    const image = formats('docker');
    const id = await ensureImage(client, image);
    const pod = await runPod(client);
    const container = await createContainer(client, pod, { image, command: ['sleep', '1000'] });
    for (const asked of [image, id]) {
      const { details } = await failureOf(client.image.removeImage({ image: { image: asked } }));
      assert.ok(details.endsWith(`image used by ${container}: image is in use by a container`), details);
    }
    assert.deepEqual((await status(id))?.repoTags, [image]);
    await removePod(client, pod.id);
    await client.image.removeImage({ image: { image } });
    assert.equal(await status(id), undefined);
  });

  test('is refused while a container has the image as a volume, also after a restart of the daemon', async () => {
    const { client, daemon } = node;
    const image = formats('list');
    const id = await ensureImage(client, image);
    const pod = await runPod(client);
    const mounts = [{ containerPath: '/volume', image: { image }, readonly: true }];
    const container = await runContainer(client, pod, { command: ['sleep', '1000'], config: { mounts } });
    const refused = async () => {
      for (const asked of [image, id]) {
        const { details } = await failureOf(client.image.removeImage({ image: { image: asked } }));
        assert.ok(details.endsWith(`the image is in use by ${container}`), details);
      }
    };
    await refused();
    await daemon.restart('SIGKILL');
    await refused();
    assert.deepEqual((await status(id))?.repoTags, [image]);
    await removePod(client, pod.id);
    await client.image.removeImage({ image: { image } });
    assert.equal(await status(id), undefined);
  });
});

describe('what an image says of itself', () => {
  test('its size is that of podman: layers unpacked, configuration, manifests', async () => {
    for (const image of [formats('zstd'), formats('layers'), criTools('test-image-1:latest')]) {
      await ensureImage(node.client, image);
      const size = (await podmanOk('image', 'inspect', '--format', '{{.Size}}', image)).trim();
      assert.equal(String((await status(image))?.size), size, image);
    }
  });

  test('its user is a uid or a name, without the group', async () => {
    const expected = {
      'user-uid': [1002n, ''],
      'user-uid-group': [1003n, ''],
      'user-username': [undefined, 'www-data'],
      'user-username-group': [undefined, 'www-data'],
    } as const;
    for (const [name, user] of Object.entries(expected)) {
      const image = criTools(`test-image-${name}:latest`);
      await ensureImage(node.client, image);
      const found = await status(image);
      assert.deepEqual([found?.uid?.value, found?.username], user, name);
    }
  });

  test('verbose adds labels and the whole configuration', async () => {
    const { client } = node;
    await ensureImage(client, formats('zstd'));
    const { info } = await client.image.imageStatus({ image: { image: formats('zstd') }, verbose: true });
    const { labels, imageSpec } = JSON.parse(info['info'] ?? '');
    assert.deepEqual(labels, { kind: 'format' });
    assert.deepEqual([imageSpec.os, imageSpec.rootfs.type, imageSpec.config.Cmd], ['linux', 'layers', ['sh']]);
    await ensureImage(client, busybox);
    const plain = await client.image.imageStatus({ image: { image: busybox }, verbose: true });
    assert.deepEqual(Object.keys(JSON.parse(plain.info['info'] ?? '')), ['imageSpec']);
  });
});

describe('pinned images', () => {
  const pinned = async (image: string) => {
    await ensureImage(node.client, image);
    const { images } = await node.client.image.listImages({ filter: { image: { image } } });
    assert.equal((await status(image))?.pinned, images[0]?.pinned);
    return images[0]?.pinned;
  };

  test('are the pause image and those that a pattern means: whole, prefix or keyword, in any case', async () => {
    for (const image of [pauseImageName, formats('plain'), formats('zstd'), criTools('test-image-1:latest')])
      assert.equal(await pinned(image), true, image);
    for (const image of [busybox, formats('layers'), criTools('test-image-2:latest')])
      assert.equal(await pinned(image), false, image);
  });

  test('change with the configuration, without a restart', async () => {
    const { daemon } = node;
    write('/etc/crio/crio.conf.d/99-pins.conf', `[crio.image]\npinned_images = ["${formats('layers')}"]\n`);
    process.kill(daemon.pid(), 'SIGHUP');
    // One question alone: the reload may come between two.
    await waitFor('the reload', 10_000, async () => (await status(formats('layers')))?.pinned === true);
    assert.equal(await pinned(formats('layers')), true);
    assert.equal(await pinned(formats('plain')), false);
    assert.equal(await pinned(pauseImageName), true);
  });
});

describe('ImageFsInfo', () => {
  test('counts the bytes and inodes of all image layers, as a walk would', async () => {
    const { client } = node;
    const found = await waitFor('the layers to be counted', 10_000, async () => {
      const { imageFilesystems, containerFilesystems } = await client.image.imageFsInfo({});
      const { inodes } = walkLayers();
      const info = imageFilesystems[0];
      return Number(info?.inodesUsed?.value) === inodes ? { info, containerFilesystems } : undefined;
    }).catch(async () => {
      const { imageFilesystems } = await client.image.imageFsInfo({});
      return assert.fail(
        `ImageFsInfo says ${imageFilesystems[0]?.inodesUsed?.value} inodes, a walk ${walkLayers().inodes}`,
      );
    });
    const { bytes, inodes } = walkLayers();
    const used = Number(found.info?.usedBytes?.value);
    assert.ok(used >= bytes && used <= bytes + inodes * 2048 + 100_000, `${used} for ${bytes} bytes of files`);
    assert.deepEqual(found.containerFilesystems, [found.info]);
    assert.equal(found.info?.fsId?.mountpoint, '/var/lib/containers/storage/overlay-images');
    assert.ok(Math.abs(Number(found.info.timestamp) / 1e6 - Date.now()) < 60_000);
  });

  test('falls when an image goes', async () => {
    const { client } = node;
    const used = async () => Number((await client.image.imageFsInfo({})).imageFilesystems[0]?.usedBytes?.value);
    await ensureImage(client, formats('layers'));
    const before = await used();
    await client.image.removeImage({ image: { image: formats('layers') } });
    const after = await used();
    assert.ok(after < before, `${after} after ${before}`);
  });
});

/** Sizes of regular files and distinct inodes below the content folders of all layers. */
function walkLayers(): { bytes: number; inodes: number } {
  const home = '/var/lib/containers/storage/overlay';
  const seen = new Set<bigint>();
  let bytes = 0;
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`;
      const { ino, size } = lstatSync(path, { bigint: true });
      if (entry.isFile() && !seen.has(ino)) bytes += Number(size);
      seen.add(ino);
      if (entry.isDirectory()) walk(path);
    }
  };
  for (const id of readdirSync(home).filter((name) => /^[0-9a-f]{64}$/.test(name))) walk(`${home}/${id}/diff`);
  return { bytes, inodes: seen.size };
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
