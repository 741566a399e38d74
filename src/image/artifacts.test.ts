import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isSafePath } from './artifacts/artifact-image.ts';
import { mediaTypes } from './media-types.ts';
import { failure, openBench, testCall } from './testing/bench.ts';
import { putImage } from './testing/fake-registry.ts';
import type { FakeRegistry } from './testing/fake-registry.ts';

function putArtifact(registry: FakeRegistry, repository: string, tag: string, files: Record<string, string>): string {
  const layers = Object.entries(files).map(([title, content]) => ({
    mediaType: 'text/plain',
    ...registry.putBlob(Buffer.from(content)),
    annotations: { 'org.opencontainers.image.title': title },
  }));
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', ...registry.putBlob(Buffer.from('{}')) };
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    artifactType: 'application/x.test',
    config,
    layers,
  };
  return registry.putManifest(repository, tag, manifest);
}

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

describe('isSafePath', () => {
  it('accepts only what stays below', () => {
    const part = fc.oneof(fc.constantFrom('..', '.', '', 'a', '\0', '...'), fc.string({ maxLength: 4 }));
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), (parts) => {
        const text = parts.join('/');
        if (isSafePath(text))
          assert.ok(join('/root', text).startsWith('/root/') && join('/root', text) === `/root/${text}`);
      }),
    );
    for (const text of ['a', 'a/b', '...']) assert.equal(isSafePath(text), true);
    for (const text of ['', '/a', '../a', 'a/../b', 'a//b', 'a/', './a', 'a\0']) assert.equal(isSafePath(text), false);
  });
});
