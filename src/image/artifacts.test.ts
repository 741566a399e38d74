import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { pathBelow } from './artifacts/artifact-image.ts';
import { fetchSeccompProfile } from './artifacts/seccomp-profile.ts';
import { digestOf } from './digest.ts';
import { failure, openBench, testCall } from './testing/bench.ts';
import { putArtifact, putImage } from './testing/fake-registry.ts';

describe('artifacts', () => {
  it('are pulled, listed, found and removed like images', async () => {
    await using bench = await openBench();
    const { registry, images, dir } = bench;
    const digest = putArtifact(registry, 'files', '1', { 'a.txt': 'A', 'sub/b.txt': 'B', '../evil': 'C' });
    const hex = digest.slice('sha256:'.length);
    const name = `${registry.host}/files:1`;
    assert.equal(await bench.pull(name), hex);
    const found = await images.find(name);
    assert.deepEqual(found?.repoTags, [name]);
    assert.deepEqual(found.repoDigests, [`${registry.host}/files@${digest}`]);
    assert.deepEqual(
      found.artifact?.blobs.map(({ title }) => title),
      ['a.txt', 'sub/b.txt', undefined],
    );
    assert.equal(await readFile(found.artifact.blobs[1]?.path ?? '', 'utf8'), 'B');
    for (const text of [hex, hex.slice(0, 6), digest, `${registry.host}/files@${digest}`])
      assert.equal((await images.find(text))?.id, hex, text);
    assert.equal((await images.list()).length, 1);
    await images.remove(testCall, name);
    assert.deepEqual(await images.list(), []);
    assert.deepEqual(await readdir(join(dir, 'artifacts/blobs/sha256')), []);
    const index = JSON.parse(await readFile(join(dir, 'artifacts/index.json'), 'utf8')) as unknown;
    assert.deepEqual(index, { schemaVersion: 2, manifests: [] });
  });

  it('CVE-2021-41103, CVE-2024-25621: are in a folder that no other user reaches', async () => {
    await using bench = await openBench();
    putArtifact(bench.registry, 'files', '1', { 'a.txt': 'A' });
    await bench.pull(`${bench.registry.host}/files:1`);
    assert.equal((await stat(join(bench.dir, 'artifacts'))).mode & 0o077, 0);
  });

  it('share blobs, and a moved tag takes the name', async () => {
    await using bench = await openBench();
    const { registry, images, dir } = bench;
    putArtifact(registry, 'files', '1', { 'a.txt': 'A', 'c.txt': 'same' });
    await bench.pull(`${registry.host}/files:1`);
    const second = putArtifact(registry, 'files', '1', { 'b.txt': 'B', 'c.txt': 'same' });
    await bench.pull(`${registry.host}/files:1`);
    assert.deepEqual(
      (await images.list()).map(({ digest }) => digest),
      [second],
    );
    assert.equal((await readdir(join(dir, 'artifacts/blobs/sha256'))).length, 4);
  });

  it('keep their blobs while another one is removed', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    putArtifact(registry, 'old', '1', { 'a.txt': 'A' });
    await bench.pull(`${registry.host}/old:1`);
    putArtifact(registry, 'new', '1', { 'b.txt': 'B', 'c.txt': 'C' });
    const last = digestOf(Buffer.from('C'));
    const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
    const { promise: removed, resolve: goOn } = Promise.withResolvers<void>();
    registry.handle = (request, response) => {
      if (request.url?.endsWith(last) !== true) return false;
      reach();
      void removed.then(() => response.end('C'));
      return true;
    };
    const pulling = bench.pull(`${registry.host}/new:1`);
    await reached;
    await images.remove(testCall, `${registry.host}/old:1`);
    goOn();
    await pulling;
    const blobs = (await images.find(`${registry.host}/new:1`))?.artifact?.blobs ?? [];
    assert.deepEqual(await Promise.all(blobs.map(({ path }) => readFile(path, 'utf8'))), ['B', 'C']);
  });

  it('with a wrong blob are refused and leave nothing', async () => {
    await using bench = await openBench();
    const { registry, images, dir } = bench;
    putArtifact(registry, 'files', '1', { 'a.txt': 'AAAA' });
    for (const [digest, blob] of registry.blobs)
      if (blob.toString() === 'AAAA') registry.blobs.set(digest, Buffer.from('BBBB'));
    assert.match(await failure(bench.pull(`${registry.host}/files:1`)), /blob has digest/);
    assert.deepEqual(await images.list(), []);
    assert.ok((await readdir(join(dir, 'artifacts/blobs/sha256'))).every((name) => !name.startsWith('.tmp')));
  });

  it('are refused when they are switched off', async () => {
    await using bench = await openBench({ image: () => ({ ociArtifactMountSupport: false }) });
    const { registry } = bench;
    putArtifact(registry, 'files', '1', { 'a.txt': 'A' });
    assert.match(
      await failure(bench.pull(`${registry.host}/files:1`)),
      /it is no image but an artifact of type "application\/x\.test"/,
    );
  });

  it('do not hide images of the same name', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    putArtifact(registry, 'a', '1', { 'a.txt': 'A' });
    await bench.pull(`${registry.host}/a:1`);
    const image = putImage(registry, 'a', '1');
    await bench.pull(`${registry.host}/a:1`);
    assert.equal((await images.find(`${registry.host}/a:1`))?.id, image.id);
    await images.remove(testCall, `${registry.host}/a:1`);
    assert.deepEqual(await images.list(), []);
  });
});

describe('additional artifact stores', () => {
  it('win over the own store, are pinned, stop a pull of the same name, and are not removed', async () => {
    await using source = await openBench();
    const name = (tag: string) => `${source.registry.host}/files:${tag}`;
    putArtifact(source.registry, 'files', '1', { 'a.txt': 'A' });
    await source.pull(name('1'));
    await using bench = await openBench({
      toml: () => `[[registry]]\nlocation = "${source.registry.host}"\ninsecure = true\n`,
      additionalArtifactStores: [source.dir],
    });
    const { images } = bench;
    const [known] = await images.list();
    assert.deepEqual([known?.pinned, known?.repoTags], [true, [name('1')]]);
    const other = putArtifact(source.registry, 'files', '1', { 'a.txt': 'other' });
    assert.equal(await bench.pull(name('1')), known?.id);
    assert.match(await failure(images.remove(testCall, name('1'))), /is in a read-only store/);
    putArtifact(source.registry, 'files', '2', { 'a.txt': 'other' });
    assert.equal(`sha256:${await bench.pull(name('2'))}`, other);
    assert.equal((await images.list()).length, 2);
    assert.equal((await images.find(name('1')))?.id, known?.id);
  });
});

describe('pullArtifact', () => {
  it('takes artifacts of a bounded size only, also where mounts are switched off', async () => {
    await using bench = await openBench({ image: () => ({ ociArtifactMountSupport: false }) });
    const { registry, images } = bench;
    const digest = putArtifact(registry, 'p', '1', { 'seccomp.json': '{"defaultAction":"SCMP_ACT_LOG"}' });
    putImage(registry, 'p', 'image');
    const pull = (tag: string, maxBytes = 1000) =>
      images.pullArtifact(testCall, { reference: `${registry.host}/p:${tag}`, namespace: '', maxBytes });
    assert.match(await failure(pull('1', 10)), /it has 34 bytes, more than the 10 allowed here/);
    assert.match(await failure(pull('image')), /it is an image, not an OCI artifact/);
    assert.equal((await pull('1')).digest, digest);
    assert.equal(
      await fetchSeccompProfile(images, testCall, { reference: `${registry.host}/p:1`, namespace: '' }),
      '{"defaultAction":"SCMP_ACT_LOG"}',
    );
    assert.deepEqual(await images.list(), []);
  });
});

describe('pathBelow', () => {
  it('gives only paths that stay below', () => {
    const part = fc.oneof(fc.constantFrom('..', '.', '', 'a', '\0', '...'), fc.string({ maxLength: 4 }));
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), (parts) => {
        const path = pathBelow(parts.join('/'));
        if (path === undefined) return;
        assert.equal(join('/root', path), `/root/${path}`);
        assert.notEqual(path, '');
        assert.equal(pathBelow(path), path);
      }),
    );
    for (const text of ['a', 'a/b', '...']) assert.equal(pathBelow(text), text);
    for (const text of ['./a/b', 'a//b', 'a/./b']) assert.equal(pathBelow(text), 'a/b');
    for (const text of ['', '.', '/a', '../a', 'a/../b', 'a/', 'a\0', 'x'.repeat(256)])
      assert.equal(pathBelow(text), undefined);
  });
});
