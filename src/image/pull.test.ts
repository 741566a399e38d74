import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { CrioError } from '../base/errors.ts';
import { defaultConfig } from '../config/config.ts';
import { digestOf } from './digest.ts';
import { mediaTypes } from './media-types.ts';
import { hostPlatform } from './platform.ts';
import { failure, noise, openBench } from './testing/bench.ts';
import { putImage } from './testing/fake-registry.ts';
import type { FakeRegistry } from './testing/fake-registry.ts';

/** Sends the first bytes of a blob, and the others when it is released. */
function holdBlob(registry: FakeRegistry, blob: Buffer, first = 0) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const held = { digest: digestOf(blob), asked: 0, release: resolve };
  registry.handle = (request, response) => {
    if (request.url?.endsWith(`/blobs/${held.digest}`) !== true) return false;
    held.asked += 1;
    if (first > 0) response.write(blob.subarray(0, first));
    void promise.then(() => response.end(blob.subarray(first)));
    return true;
  };
  return held;
}

describe('pull', () => {
  it('stores config, manifest and layers, and lists the image', async () => {
    await using bench = await openBench();
    const { registry, store, images } = bench;
    const layers = [Buffer.from('one'), Buffer.from('two'), Buffer.from('three')];
    const image = putImage(registry, 'a/b', '1', { layers });
    assert.equal(await bench.pull(`${registry.host}/a/b:1`), image.id);
    const record = await store.images.find(image.id);
    assert.deepEqual(record?.bigDataNames, [`sha256:${image.id}`, `manifest-${image.manifestDigest}`, 'manifest']);
    assert.equal(record.metadata, '{}');
    assert.equal(record.createdNs, 1704164645000000000n);
    assert.deepEqual([...store.layerContents.values()].map(String).toSorted(), ['one', 'three', 'two']);
    const [listed] = await images.list();
    assert.deepEqual(listed?.repoTags, [`${registry.host}/a/b:1`]);
    assert.deepEqual(listed?.repoDigests, [`${registry.host}/a/b@${image.manifestDigest}`]);
    assert.deepEqual(listed?.config.cmd, ['sh']);
  });

  it('gives up its layers when the image cannot be stored, and keeps them for the next try when one did not come', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    const broken = putImage(registry, 'a', 'broken', { layers: [Buffer.from('one'), Buffer.from('two')] });
    registry.blobs.delete(broken.layerDigests[1] ?? '');
    await failure(bench.pull(`${registry.host}/a:broken`));
    assert.deepEqual(store.discarded, []);
    putImage(registry, 'a', '1', { layers: [Buffer.from('one'), Buffer.from('three')] });
    Object.assign(store.images, { put: () => Promise.reject(new CrioError('already-exists', 'another top layer')) });
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /another top layer/);
    assert.equal(store.discarded.length, 2);
  });

  it('goes through nested lists to the entry for this machine and keeps the lists', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    const own = putImage(registry, 'a', 'own');
    const other = putImage(registry, 'a', 'other', { architecture: 's390x' });
    const entry = (image: { manifestDigest: string }, platform: object) => ({
      mediaType: mediaTypes.ociManifest,
      digest: image.manifestDigest,
      size: 1,
      platform,
    });
    const inner = registry.putManifest(
      'a',
      'inner',
      {
        schemaVersion: 2,
        mediaType: mediaTypes.ociIndex,
        manifests: [
          entry(other, { os: 'linux', architecture: 's390x' }),
          entry(own, { os: hostPlatform.os, architecture: hostPlatform.architecture }),
        ],
      },
      mediaTypes.ociIndex,
    );
    const outer = registry.putManifest(
      'a',
      'multi',
      {
        schemaVersion: 2,
        mediaType: mediaTypes.dockerList,
        manifests: [{ mediaType: mediaTypes.ociIndex, digest: inner, size: 1 }],
      },
      mediaTypes.dockerList,
    );
    assert.equal(await bench.pull(`${registry.host}/a:multi`), own.id);
    assert.deepEqual((await store.images.find(own.id))?.bigDataNames.slice(1, 3), [
      `manifest-${outer}`,
      `manifest-${inner}`,
    ]);
  });

  it('says which platforms there are when none fits', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const other = putImage(registry, 'a', 'other');
    registry.putManifest(
      'a',
      'multi',
      {
        schemaVersion: 2,
        manifests: [{ digest: other.manifestDigest, size: 1, platform: { os: 'linux', architecture: 's390x' } }],
      },
      mediaTypes.ociIndex,
    );
    assert.match(await failure(bench.pull(`${registry.host}/a:multi`)), /for linux\/\w+, there are: linux\/s390x/);
  });

  it('does not download a layer that is there', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    putImage(registry, 'a', '1', { layers: [Buffer.from('base'), Buffer.from('x')] });
    putImage(registry, 'b', '1', { layers: [Buffer.from('base'), Buffer.from('y')] });
    await bench.pull(`${registry.host}/a:1`);
    await bench.pull(`${registry.host}/b:1`);
    assert.equal(store.unpacked.length, 3);
  });

  it('joins ten pulls of one image, and pulls that share layers', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    putImage(registry, 'a', '1', { layers: [Buffer.from('base'), Buffer.from('x')] });
    putImage(registry, 'b', '1', { layers: [Buffer.from('base'), Buffer.from('y')] });
    const names = Array.from({ length: 10 }, () => `${registry.host}/a:1`);
    await Promise.all([...names, `${registry.host}/b:1`].map((name) => bench.pull(name)));
    assert.equal(store.unpacked.length, 3);
    assert.equal(
      registry.requests.filter(({ line }) => line.includes('/a/blobs/')).length +
        registry.requests.filter(({ line }) => line.includes('/b/blobs/')).length,
      5,
    );
  });

  it('goes on for the other waiters when one leaves', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    let release = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    let holding = false;
    registry.handle = (request, response) => {
      if (request.url?.includes('/blobs/') !== true || holding) return false;
      holding = true;
      void held.then(() => response.destroy());
      return true;
    };
    const controller = new AbortController();
    const leaving = bench.pull(`${registry.host}/a:1`, { signal: controller.signal });
    const staying = bench.pull(`${registry.host}/a:1`);
    await sleep(50);
    controller.abort();
    assert.match(await failure(leaving), /context canceled/);
    release();
    assert.equal(await staying, image.id);
  });

  it('downloads and unpacks a layer once for all images that wait for it, and each waiter keeps its own deadline', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    const base = Buffer.from('base');
    const names = ['a', 'b', 'c'];
    const made = names.map((name) => putImage(registry, name, '1', { layers: [base, Buffer.from(name)] }));
    const held = holdBlob(registry, gzipSync(base));
    const deadline = new AbortController();
    const impatient = bench.pull(`${registry.host}/a:1`, { signal: deadline.signal });
    const patient = ['a', 'a', 'b', 'c'].map((name) => bench.pull(`${registry.host}/${name}:1`));
    await sleep(50);
    deadline.abort(new CrioError('deadline', 'context deadline exceeded'));
    assert.match(await failure(impatient), /context deadline exceeded/);
    held.release();
    assert.deepEqual(
      await Promise.all(patient),
      [0, 0, 1, 2].map((at) => made[at]?.id),
    );
    assert.equal(held.asked, 1, 'one download');
    assert.equal(store.unpacked.filter((digest) => digest === held.digest).length, 1, 'one unpack');
  });

  it('goes on with a layer for the pull that is left, when the pull that began it ends', async () => {
    await using bench = await openBench({
      image: () => ({ pullProgressTimeoutMs: 1000 }),
      limits: { firstByteMs: 60_000 },
    });
    const { registry, images, store } = bench;
    const base = Buffer.from('base');
    putImage(registry, 'a', '1', { layers: [base] });
    const other = putImage(registry, 'b', '1', { layers: [base, Buffer.from('b')] });
    const held = holdBlob(registry, gzipSync(base));
    const first = failure(bench.pull(`${registry.host}/a:1`));
    while (held.asked === 0) await sleep(5);
    // Only the first pull has a limit.
    await images.reload({
      image: { ...defaultConfig().image, namespacedAuthDir: '', signaturePolicyDir: '', pullProgressTimeoutMs: 0 },
    });
    const second = bench.pull(`${registry.host}/b:1`);
    assert.match(await first, /no progress/);
    held.release();
    assert.equal(await second, other.id);
    assert.equal(held.asked, 1, 'one download');
    assert.equal(store.unpacked.filter((digest) => digest === held.digest).length, 1, 'one unpack');
  });

  it('shows what moves in the layer of another pull as its own', async () => {
    await using bench = await openBench({ limits: { firstByteMs: 60_000, stallMs: 60_000 } });
    const { registry, images } = bench;
    const blob = gzipSync(noise(4000));
    const made = ['a', 'b'].map((name) => putImage(registry, name, '1', { layers: [noise(4000)] }));
    const held = holdBlob(registry, blob, 1000);
    const pulls = ['a', 'b'].map((name) => bench.pull(`${registry.host}/${name}:1`));
    const shown = () => images.pulls().map(({ layers }) => layers[0]?.downloadedBytes);
    while (shown().join() !== '1000,1000') await sleep(5);
    const phases = new Set(images.pulls().map(({ layers }) => layers[0]?.phase));
    assert.deepEqual(phases, new Set(['downloading', 'joined']));
    held.release();
    assert.deepEqual(
      await Promise.all(pulls),
      made.map((image) => image.id),
    );
    assert.equal(held.asked, 1, 'one download');
  });

  it('ends running pulls when the daemon stops', async () => {
    await using bench = await openBench({ limits: { firstByteMs: 60_000 } });
    const { registry, images, store } = bench;
    putImage(registry, 'a', '1');
    registry.handle = (request) => request.url?.includes('/blobs/') === true;
    const pulling = failure(bench.pull(`${registry.host}/a:1`));
    await sleep(50);
    assert.equal(images.pulls().length, 1);
    await images[Symbol.asyncDispose]();
    assert.match(await pulling, /the daemon is shutting down/);
    assert.deepEqual([images.pulls().length, store.unpacked.length], [0, 0]);
  });

  it('takes a moved tag from the image that had it', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const first = putImage(registry, 'a', '1', { layers: [Buffer.from('x')] });
    await bench.pull(`${registry.host}/a:1`);
    const second = putImage(registry, 'a', '1', { layers: [Buffer.from('y')] });
    await bench.pull(`${registry.host}/a:1`);
    assert.equal((await images.find(`${registry.host}/a:1`))?.id, second.id);
    const old = await images.find(first.id);
    assert.deepEqual(old?.repoTags, []);
    assert.deepEqual(old?.repoDigests, [`${registry.host}/a@${first.manifestDigest}`]);
  });
});

describe('pull by digest', () => {
  it('names the image by digest, and drops the tag of a name that has both', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const image = putImage(registry, 'a', '1');
    await bench.pull(`${registry.host}/a:other@${image.manifestDigest}`);
    const found = await images.find(`${registry.host}/a@${image.manifestDigest}`);
    assert.deepEqual(found?.repoTags, []);
    assert.deepEqual(found?.repoDigests, [`${registry.host}/a@${image.manifestDigest}`]);
  });

  it('refuses a manifest with another digest', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    registry.manifests.set(`a ${image.manifestDigest}`, {
      data: Buffer.from('{"schemaVersion":2}'),
      contentType: mediaTypes.ociManifest,
    });
    assert.match(
      await failure(bench.pull(`${registry.host}/a@${image.manifestDigest}`)),
      /verify manifest .*digest is sha256:/,
    );
  });
});

describe('error texts', () => {
  it('starts with RegistryUnavailable when nobody listens', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    await registry[Symbol.asyncDispose]();
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /^RegistryUnavailable: .*connect ECONNREFUSED/);
  });

  it('starts with SignatureValidationFailed when the policy refuses, and names the rule', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    putImage(registry, 'a', '1');
    await writeFile(
      bench.policyFile,
      JSON.stringify({
        default: [{ type: 'insecureAcceptAnything' }],
        transports: { docker: { [registry.host]: [{ type: 'reject' }] } },
      }),
    );
    assert.match(
      await failure(bench.pull(`${registry.host}/a:1`)),
      /^SignatureValidationFailed: .*Source image rejected: Running image docker:\/\/\S+ is rejected by policy\..*scope "127\.0\.0\.1:\d+"/,
    );
  });

  it('needs TLS when the registry is not insecure, also on loopback', async () => {
    await using bench = await openBench({ toml: () => '' });
    const { registry } = bench;
    putImage(registry, 'a', '1');
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /^unable to pull image: .*https:\/\/127\.0\.0\.1/);
    assert.deepEqual(registry.requests, []);
  });

  it('ends a pull without progress after pull_progress_timeout', async () => {
    await using bench = await openBench({
      image: () => ({ pullProgressTimeoutMs: 100 }),
      limits: { firstByteMs: 5000, stallMs: 5000 },
    });
    const { registry } = bench;
    putImage(registry, 'a', '1');
    registry.handle = (request) => request.url?.includes('/manifests/') === true;
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /context canceled: no progress for 0\.1 s/);
  });
});
