import assert from 'node:assert/strict';
import { readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { silentLog } from '../base/log.ts';
import { artifactDamage } from './artifacts/artifact-damage.ts';
import { pathBelow } from './artifacts/artifact-image.ts';
import { ArtifactStore } from './artifacts/artifact-store.ts';
import { fetchSeccompProfile } from './artifacts/seccomp-profile.ts';
import { digestOf } from './digest.ts';
import { mediaTypes } from './media-types.ts';
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
    assert.deepEqual(await readdir(join(dir, 'artifacts/blobs/sha256')), []);
  });

  it('that fail take back their blobs, but not those that another artifact has', async () => {
    await using bench = await openBench();
    const { registry, dir } = bench;
    putArtifact(registry, 'sound', '1', { 'a.txt': 'A' });
    await bench.pull(`${registry.host}/sound:1`);
    const before = await readdir(join(dir, 'artifacts/blobs/sha256'));
    putArtifact(registry, 'broken', '1', { 'a.txt': 'A', 'b.txt': 'B', 'c.txt': 'C' });
    registry.blobs.delete(digestOf(Buffer.from('C')));
    await failure(bench.pull(`${registry.host}/broken:1`));
    assert.deepEqual(await readdir(join(dir, 'artifacts/blobs/sha256')), before);
  });

  it('are fetched several blobs at a time, each once, whoever waits', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const shared = { 'a.txt': 'A', 'b.txt': 'B', 'c.txt': 'C' };
    putArtifact(registry, 'one', '1', shared);
    putArtifact(registry, 'two', '1', { ...shared, 'd.txt': 'D' });
    const waiting = new Map<string, () => void>();
    const { promise: allAsked, resolve } = Promise.withResolvers<void>();
    registry.handle = (request, response) => {
      const digest = /\/blobs\/(.*)$/.exec(request.url ?? '')?.[1] ?? '';
      const blob = registry.blobs.get(digest);
      if (blob === undefined) return false;
      assert.equal(waiting.has(digest), false, `${digest} is asked for twice`);
      waiting.set(digest, () => response.end(blob));
      if (waiting.size === 4) resolve();
      return true;
    };
    const pulls = ['one', 'two'].map((repository) => bench.pull(`${registry.host}/${repository}:1`));
    await Promise.race([allAsked, ...pulls]);
    registry.handle = () => false;
    for (const answer of waiting.values()) answer();
    await Promise.all(pulls);
    const asked = registry.requests.filter(({ line }) => line.includes('/blobs/'));
    assert.equal(asked.length, 5, 'the config and four files');
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

describe('an artifact store', () => {
  const blobs = (dir: string) => join(dir, 'artifacts/blobs/sha256');
  const hexOf = (text: string) => digestOf(Buffer.from(text)).slice('sha256:'.length);
  const cleanUp = async (dir: string) => {
    using store = new ArtifactStore(join(dir, 'artifacts'), silentLog);
    await store.cleanUp(new AbortController().signal);
  };

  it('deletes what a killed process left of a pull, and nothing of another program', async () => {
    await using bench = await openBench();
    const { registry, images, dir } = bench;
    putArtifact(registry, 'files', '1', { 'a.txt': 'A' });
    await bench.pull(`${registry.host}/files:1`);
    const before = await readdir(blobs(dir));
    await images[Symbol.asyncDispose]();
    for (const text of ['ours', 'theirs']) await writeFile(join(blobs(dir), hexOf(text)), text);
    const foreign = join(blobs(dir), 'oci-put-blob123');
    for (const path of [foreign, join(blobs(dir), '.tmp-1'), join(dir, 'artifacts/.tmp-2')]) await writeFile(path, '');
    const noted = ['A', 'ours'].map((text) => `sha256:${hexOf(text)}`);
    await writeFile(join(dir, 'artifacts/crio-pulled-blobs'), noted.join('\n'));
    await cleanUp(dir);
    assert.deepEqual(
      (await readdir(blobs(dir))).toSorted(),
      [...before, hexOf('theirs'), 'oci-put-blob123'].toSorted(),
    );
    assert.deepEqual(
      (await readdir(join(dir, 'artifacts'))).filter((name) => name.startsWith('.tmp-')),
      [],
    );
    assert.equal((await readFile(join(dir, 'artifacts/crio-pulled-blobs'), 'utf8')).trim(), '');
  });

  it('leaves a pull alone that goes on in another process', async () => {
    await using bench = await openBench();
    using store = new ArtifactStore(join(bench.dir, 'artifacts'), silentLog);
    using _pull = await store.begin([digestOf(Buffer.from('ours'))]);
    await store.addBlob(digestOf(Buffer.from('ours')), (append) => append(Buffer.from('ours')));
    await cleanUp(bench.dir);
    assert.deepEqual(await readdir(blobs(bench.dir)), [hexOf('ours')]);
  });

  it('keeps entries that are no artifacts, and the blobs that they may need', async () => {
    await using bench = await openBench();
    const { registry, images, dir } = bench;
    putArtifact(registry, 'files', '1', { 'a.txt': 'A' });
    await bench.pull(`${registry.host}/files:1`);
    const path = join(dir, 'artifacts/index.json');
    const index = JSON.parse(await readFile(path, 'utf8'));
    const list = { mediaType: mediaTypes.ociIndex, digest: `sha256:${'0'.repeat(64)}`, size: 1 };
    await writeFile(path, JSON.stringify({ ...index, manifests: [...index.manifests, list] }));
    await images.remove(testCall, `${registry.host}/files:1`);
    assert.deepEqual(JSON.parse(await readFile(path, 'utf8')), { schemaVersion: 2, manifests: [list] });
    assert.ok((await readdir(blobs(dir))).includes(hexOf('A')));
  });

  it('does not read an index of any size', async () => {
    await using bench = await openBench();
    putArtifact(bench.registry, 'files', '1', { 'a.txt': 'A' });
    await bench.pull(`${bench.registry.host}/files:1`);
    await truncate(join(bench.dir, 'artifacts/index.json'), 17 << 20);
    assert.match(await failure(bench.images.list()), /index.json": larger than 16777216 bytes/);
  });

  for (const [what, harm, byLook] of [
    ['a changed blob', (dir: string) => writeFile(join(blobs(dir), hexOf('A')), 'X'), true],
    ['a blob cut short', (dir: string) => writeFile(join(blobs(dir), hexOf('A')), ''), false],
    ['no blob', (dir: string) => rm(join(blobs(dir), hexOf('A'))), false],
  ] as const) {
    it(`does not count an artifact as present that has ${what}; the next pull brings it alone`, async () => {
      await using bench = await openBench();
      const { registry, images, dir } = bench;
      const names = ['one', 'two'].map((repository) => `${registry.host}/${repository}:1`);
      putArtifact(registry, 'one', '1', { 'a.txt': 'A', 'b.txt': 'B' });
      putArtifact(registry, 'two', '1', { 'b.txt': 'B' });
      for (const name of names) await bench.pull(name);
      const listed = async () => (await images.list()).flatMap(({ repoTags }) => repoTags).toSorted();
      await harm(dir);
      const store = new ArtifactStore(join(dir, 'artifacts'), silentLog);
      const signal = new AbortController().signal;
      assert.equal((await artifactDamage(store, { contents: false, signal })).size, byLook ? 0 : 1);
      assert.equal((await artifactDamage(store, { contents: true, signal })).size, 1);
      await images.lookAtArtifacts(signal);
      assert.deepEqual(await listed(), names.slice(1));
      const asked = registry.requests.length;
      await bench.pull(names[0] ?? '');
      const blobRequests = registry.requests.slice(asked).filter(({ line }) => line.includes('/blobs/'));
      assert.deepEqual(
        blobRequests.map(({ line }) => line),
        [`GET /v2/one/blobs/sha256:${hexOf('A')}`],
      );
      assert.deepEqual(await listed(), names);
      assert.equal((await artifactDamage(store, { contents: true, signal })).size, 0);
    });
  }

  it('does not believe a changed manifest; the artifact can be removed by its name', async () => {
    await using bench = await openBench();
    const { registry, images, dir } = bench;
    const name = `${registry.host}/files:1`;
    const digest = putArtifact(registry, 'files', '1', { 'a.txt': 'A' });
    await bench.pull(name);
    const path = join(blobs(dir), digest.slice('sha256:'.length));
    await writeFile(path, (await readFile(path, 'utf8')).replace('x.test', 'y.test'));
    await images.lookAtArtifacts(new AbortController().signal);
    assert.equal(await images.find(name), undefined);
    await images.remove(testCall, name);
    const index = JSON.parse(await readFile(join(dir, 'artifacts/index.json'), 'utf8'));
    assert.deepEqual(index.manifests, []);
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
