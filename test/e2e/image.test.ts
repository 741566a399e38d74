import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { execSync, removePod, runContainer, runPod } from '../client/pods.ts';
import { buildImages, type ImageDigests } from '../fixtures/build.ts';
import { podmanOn, podmanRunOptions } from '../fixtures/podman.ts';
import { run } from '../fixtures/process.ts';
import { failureOf, useDaemon } from './environment.ts';

const node = useDaemon();
let digests: ImageDigests;
before(async () => {
  digests = (await buildImages('test')).digests;
});

const formats = 'docker.io/library/formats';

const podman = podmanOn({ root: '/var/lib/containers/storage', runRoot: '/run/containers/storage' });

describe('pulling', () => {
  for (const tag of ['zstd', 'plain', 'docker', 'list', 'docker-list']) {
    test(`takes an image with format "${tag}"`, async () => {
      const { client } = node;
      const image = `${formats}:${tag}`;
      const { imageRef } = await client.image.pullImage({ image: { image } });
      assert.match(imageRef, /^[0-9a-f]{64}$/);
      const { image: status } = await client.image.imageStatus({ image: { image } });
      assert.equal(status?.id, imageRef);
      assert.deepEqual(status.repoTags, [image]);
      assert.ok(
        status.repoDigests.includes(`${formats}@${digests[image] ?? ''}`),
        `${status.repoDigests.join(' ')} has ${digests[image] ?? ''}`,
      );
      const pod = await runPod(client);
      const id = await runContainer(client, pod, { image, command: ['sleep', '1000'] });
      assert.equal((await execSync(client, id, ['cat', '/etc/image-name'])).stdout, `${image}\n`);
      await removePod(client, pod.id);
    });
  }

  test('applies whiteouts, opaque folders, links, modes and owners', async () => {
    const { client } = node;
    const image = `${formats}:layers`;
    const pod = await runPod(client);
    const id = await runContainer(client, pod, { image, command: ['sleep', '1000'] });
    const { stdout } = await execSync(client, id, [
      'sh',
      '-c',
      'cd /data; find . | sort; cat hard kept; stat -c "%h %a %u %g" hard set-user',
    ]);
    assert.equal(
      stdout,
      '.\n./folder\n./folder/new\n./hard\n./kept\n./replaced\n./set-user\nsecond\none\n2 644 0 0\n1 4755 1234 5678\n',
    );
    await removePod(client, pod.id);
  });

  test('by digest gives no tag', async () => {
    const { client } = node;
    const tagged = 'gcr.io/k8s-staging-cri-tools/test-image-digest:latest';
    const image = `gcr.io/k8s-staging-cri-tools/test-image-digest@${digests[tagged] ?? ''}`;
    await client.image.pullImage({ image: { image } });
    const { image: status } = await client.image.imageStatus({ image: { image } });
    assert.deepEqual(status?.repoTags, []);
    assert.deepEqual(status?.repoDigests, [image]);
    await client.image.removeImage({ image: { image } });
  });

  test('what is not there is an error that names the image', async () => {
    const image = 'registry.k8s.io/nothere:1';
    assert.match((await failureOf(node.client.image.pullImage({ image: { image } }))).details, /nothere/);
    assert.equal((await node.client.image.imageStatus({ image: { image } })).image, undefined);
  });
});

describe('images', () => {
  test('several names of one image are one entry, and removing the id removes all', async () => {
    const { client } = node;
    const names = ['1', '2', '3'].map((tag) => `gcr.io/k8s-staging-cri-tools/test-image-tags:${tag}`);
    const ids = new Set<string>();
    for (const image of names) ids.add((await client.image.pullImage({ image: { image } })).imageRef);
    assert.equal(ids.size, 1);
    const [id = ''] = ids;
    const entry = (await client.image.listImages({})).images.find((image) => image.id === id);
    assert.deepEqual(entry?.repoTags, names);
    await client.image.removeImage({ image: { image: names[0] ?? '' } });
    assert.deepEqual((await client.image.imageStatus({ image: { image: id } })).image?.repoTags, names.slice(1));
    await client.image.removeImage({ image: { image: id } });
    await client.image.removeImage({ image: { image: id } });
    assert.equal((await client.image.imageStatus({ image: { image: id } })).image, undefined);
  });

  test('the size of the image folder is reported', async () => {
    const { imageFilesystems } = await node.client.image.imageFsInfo({});
    assert.match(imageFilesystems[0]?.fsId?.mountpoint ?? '', /overlay-images$/);
    assert.ok((imageFilesystems[0]?.usedBytes?.value ?? 0n) > 0n);
  });

  test('user, labels and configuration are shown', async () => {
    const { client } = node;
    const image = `${formats}:config`;
    await client.image.pullImage({ image: { image } });
    const { image: status, info } = await client.image.imageStatus({ image: { image }, verbose: true });
    assert.equal(status?.username, 'www-data');
    assert.match(info['info'] ?? '', /COLOUR=blue/);
  });
});

describe('other tools agree about the store', () => {
  test('podman lists and runs what was pulled, and afterwards the daemon still does', async () => {
    const { client } = node;
    const image = `${formats}:layers`;
    const { imageRef } = await client.image.pullImage({ image: { image } });
    assert.match(podman('images', '--no-trunc', '--quiet'), new RegExp(imageRef));
    assert.equal(podman('run', ...podmanRunOptions, image, 'cat', '/data/replaced'), 'second\n');
    const pod = await runPod(client);
    const id = await runContainer(client, pod, { image, command: ['sleep', '1000'] });
    assert.equal(podman('run', ...podmanRunOptions, image, 'cat', '/data/kept'), 'one\n');
    assert.equal((await execSync(client, id, ['cat', '/data/kept'])).stdout, 'one\n');
    await removePod(client, pod.id);
  });

  test('skopeo and podman give the layers back byte for byte', async () => {
    const { client } = node;
    const image = `${formats}:layers`;
    const { imageRef } = await client.image.pullImage({ image: { image } });
    const reference = `containers-storage:[overlay@/var/lib/containers/storage+/run/containers/storage]${image}`;
    run('skopeo', ['copy', '--quiet', reference, 'dir:/srv/copied']);
    const manifest = JSON.parse(readFileSync('/srv/copied/manifest.json', 'utf8')) as {
      config: { digest: string };
      layers: { digest: string }[];
    };
    assert.equal(manifest.config.digest, `sha256:${imageRef}`);
    const config = JSON.parse(readFileSync(`/srv/copied/${imageRef}`, 'utf8')) as { rootfs: { diff_ids: string[] } };
    const files = new Set(readdirSync('/srv/copied'));
    const expected = config.rootfs.diff_ids.map((digest) => digest.slice('sha256:'.length));
    const copied = manifest.layers.map(({ digest }) => digest.slice('sha256:'.length));
    for (const digest of copied) {
      assert.ok(files.has(digest));
      assert.equal(
        createHash('sha256')
          .update(readFileSync(`/srv/copied/${digest}`))
          .digest('hex'),
        digest,
      );
    }
    assert.deepEqual(copied, expected, 'the layers leave the store uncompressed, with their diff ids');
    podman('save', '--format', 'oci-dir', '--output', '/srv/saved', image);
    const index = JSON.parse(readFileSync('/srv/saved/index.json', 'utf8')) as { manifests: { digest: string }[] };
    const saved = JSON.parse(
      readFileSync(`/srv/saved/blobs/sha256/${index.manifests[0]?.digest.slice(7) ?? ''}`, 'utf8'),
    ) as { config: { digest: string } };
    assert.equal(saved.config.digest, `sha256:${imageRef}`);
  });

  test('an image that podman pulled shows up, runs, and can be removed', async () => {
    const { client } = node;
    const image = 'gcr.io/k8s-staging-cri-tools/test-image-1:latest';
    podman('pull', '--quiet', image);
    const { image: status } = await client.image.imageStatus({ image: { image } });
    assert.deepEqual(status?.repoTags, [image]);
    const pod = await runPod(client);
    const id = await runContainer(client, pod, { image, command: ['sleep', '1000'] });
    assert.equal((await execSync(client, id, ['cat', '/etc/image-name'])).stdout, `${image}\n`);
    await removePod(client, pod.id);
    await client.image.removeImage({ image: { image } });
    assert.doesNotMatch(podman('images'), /test-image-1/);
  });

  test('an image that podman removed is gone here too', async () => {
    const { client } = node;
    const image = 'gcr.io/k8s-staging-cri-tools/test-image-2:latest';
    await client.image.pullImage({ image: { image } });
    podman('rmi', image);
    assert.equal((await client.image.imageStatus({ image: { image } })).image, undefined);
  });
});
