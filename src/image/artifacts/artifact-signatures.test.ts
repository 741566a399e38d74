import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { defaultConfig } from '../../config/config.ts';
import { mediaTypes } from '../media-types.ts';
import { signatureAnnotation, sigstoreMimeType } from '../policy/sigstore.ts';
import { failure, openBench, testCall } from '../testing/bench.ts';
import type { Bench, BenchOptions } from '../testing/bench.ts';
import { putArtifact, putImage } from '../testing/fake-registry.ts';
import type { FakeRegistry } from '../testing/fake-registry.ts';
import { decodeSignatureFile, encodeSignatureFile } from './artifact-signatures.ts';
import { fetchSeccompProfile } from './seccomp-profile.ts';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** `strict` takes what `privateKey` signed, `open` everything; signatures are attached in the registry. */
async function openNamespaces(registry?: FakeRegistry, options: BenchOptions = {}): Promise<Bench> {
  const bench = await openBench({
    ...options,
    ...(registry && { toml: () => `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n` }),
  });
  const { dir, images } = bench;
  const keyData = Buffer.from(publicKey.export({ type: 'spki', format: 'pem' })).toString('base64');
  const strict = { type: 'sigstoreSigned', keyData, signedIdentity: { type: 'matchRepository' } };
  for (const folder of ['registries.d', 'policies']) await mkdir(join(dir, folder));
  await writeFile(join(dir, 'policies/strict.json'), JSON.stringify({ default: [strict] }));
  await writeFile(join(dir, 'policies/open.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
  await writeFile(join(dir, 'registries.d/a.yaml'), 'default-docker:\n  use-sigstore-attachments: true\n');
  const image = { ...defaultConfig().image, namespacedAuthDir: '', signaturePolicyDir: join(dir, 'policies') };
  await images.reload({ image });
  return bench;
}

function attach(registry: FakeRegistry, repository: string, digest: string): void {
  const critical = {
    type: 'cosign container image signature',
    image: { 'docker-manifest-digest': digest },
    identity: { 'docker-reference': `${registry.host}/${repository}` },
  };
  const payload = Buffer.from(JSON.stringify({ critical, optional: {} }));
  const annotations = { [signatureAnnotation]: sign('sha256', payload, privateKey).toString('base64') };
  registry.putManifest(repository, `${digest.replace(':', '-')}.sig`, {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: mediaTypes.ociConfig, ...registry.putBlob(Buffer.from('{}')) },
    layers: [{ mediaType: sigstoreMimeType, ...registry.putBlob(payload), annotations }],
  });
}

const files = { 'a.txt': 'A' };
const kept = (bench: Bench) => join(bench.dir, 'artifacts/crio-signatures');
const use = (bench: Bench, imageId: string, userSpecifiedImage: string, namespace = 'strict') =>
  bench.images.verifyUse({ imageId, userSpecifiedImage, namespace });

describe('artifacts before their use', () => {
  it('are refused without a signature, whoever pulled them', async () => {
    await using bench = await openNamespaces();
    const { registry } = bench;
    putArtifact(registry, 'a', '1', files);
    const name = `${registry.host}/a:1`;
    const id = await bench.pull(name, { namespace: 'open' });
    await use(bench, id, name, 'open');
    assert.match(await failure(use(bench, id, name)), /^SignatureValidationFailed: .*no signature exists/);
    assert.match(await failure(use(bench, id, '')), /user specified image not specified/);
    assert.match(await failure(use(bench, 'f'.repeat(64), name)), /is not in storage/);
    await assert.rejects(stat(kept(bench)), { code: 'ENOENT' });
  });

  it('are accepted with the signatures that their pulls found, which go with them', async () => {
    await using bench = await openNamespaces();
    const { registry, images } = bench;
    const digest = putArtifact(registry, 'a', '1', files);
    attach(registry, 'a', digest);
    const name = `${registry.host}/a:1`;
    const other = `${registry.host}/b:1`;
    const id = await bench.pull(name, { namespace: 'open' });
    await use(bench, id, name);
    assert.match(await failure(use(bench, id, other)), /Signature for identity ".*\/a" is not accepted/);
    // A name without signatures does not take away those of another one.
    putArtifact(registry, 'b', '1', files);
    assert.equal(await bench.pull(other, { namespace: 'open' }), id);
    await use(bench, id, name);
    attach(registry, 'b', digest);
    await bench.pull(other, { namespace: 'open' });
    await use(bench, id, name);
    await use(bench, id, other);
    await images.remove(testCall, other);
    await use(bench, id, name);
    assert.deepEqual(await readdir(kept(bench)), [`${digest.replace(':', '-')}.json`]);
    putArtifact(registry, 'a', '1', { 'b.txt': 'B' });
    await bench.pull(name, { namespace: 'open' });
    assert.deepEqual(await readdir(kept(bench)), []);
  });

  it('are refused when the file of signatures is gone or damaged, until the next pull', async () => {
    await using bench = await openNamespaces();
    const { registry } = bench;
    const digest = putArtifact(registry, 'a', '1', files);
    attach(registry, 'a', digest);
    const name = `${registry.host}/a:1`;
    const id = await bench.pull(name, { namespace: 'open' });
    const path = join(kept(bench), `${digest.replace(':', '-')}.json`);
    for (const damage of [
      () => rm(path),
      () => writeFile(path, '{"version":1,"manifests":[{'),
      () => writeFile(path, '{"version":2,"manifests":[]}'),
      () => writeFile(path, Buffer.alloc((33 << 20) + 1)),
    ]) {
      await use(bench, id, name);
      await damage();
      assert.match(await failure(use(bench, id, name)), /^SignatureValidationFailed: .*no signature exists/);
      await use(bench, id, name, 'open');
      await bench.pull(name, { namespace: 'open' });
    }
    await use(bench, id, name);
  });

  it('do not stand for images, nor images for them', async () => {
    await using bench = await openNamespaces();
    const { registry } = bench;
    const name = `${registry.host}/a:1`;
    const image = putImage(registry, 'a', '1');
    attach(registry, 'a', image.manifestDigest);
    await bench.pull(name, { namespace: 'open' });
    putArtifact(registry, 'a', '1', files);
    const id = await bench.pull(name, { namespace: 'open' });
    await use(bench, image.id, name);
    assert.match(await failure(use(bench, id, name)), /^SignatureValidationFailed: .*no signature exists/);
  });
});

describe('seccomp profiles in artifacts', () => {
  it('need what the policy of the namespace asks for, also after a pull by another one', async () => {
    await using bench = await openNamespaces();
    const { registry, images } = bench;
    const digest = putArtifact(registry, 'p', '1', { 'seccomp.json': '{}' });
    const reference = `${registry.host}/p:1`;
    const fetch = (namespace: string) => fetchSeccompProfile(images, testCall, { reference, namespace });
    assert.equal(await fetch('open'), '{}');
    assert.match(await failure(fetch('strict')), /^SignatureValidationFailed: .*no signature exists/);
    attach(registry, 'p', digest);
    assert.equal(await fetch('strict'), '{}');
  });
});

describe('artifacts in additional stores', () => {
  it('are checked themselves, not what the registry has under their name', async () => {
    await using source = await openNamespaces();
    const { registry } = source;
    const name = `${registry.host}/a:1`;
    const first = putArtifact(registry, 'a', '1', files);
    await source.pull(name, { namespace: 'open' });
    await using bench = await openNamespaces(registry, { additionalArtifactStores: [source.dir] });
    attach(registry, 'a', putArtifact(registry, 'a', '1', { 'b.txt': 'B' }));
    assert.match(
      await failure(bench.pull(name, { namespace: 'strict' })),
      /^SignatureValidationFailed: .*no signature/,
    );
    const id = await bench.pull(name, { namespace: 'open' });
    assert.match(await failure(use(bench, id, name)), /^SignatureValidationFailed: .*no signature exists/);
    // Signatures that a pull finds for it are kept beside the own artifacts, also when one of those goes.
    putArtifact(registry, 'a', '1', files);
    attach(registry, 'a', first);
    assert.equal(await bench.pull(name, { namespace: 'strict' }), id);
    await use(bench, id, name);
    putArtifact(registry, 'c', '1', { 'c.txt': 'C' });
    await bench.pull(`${registry.host}/c:1`, { namespace: 'open' });
    await bench.images.remove(testCall, `${registry.host}/c:1`);
    await use(bench, id, name);
  });
});

describe('the file of signatures', () => {
  const digest = (index: number) => `sha256:${index.toString(16).padStart(64, '0')}`;

  it('gives back both kinds', () => {
    const sigstore = { mimeType: sigstoreMimeType, payload: Buffer.from('p'), annotations: new Map([['k', 'v']]) };
    const signatures = new Map([[digest(1), [Buffer.from([0x90, 1]), sigstore]]]);
    assert.deepEqual(decodeSignatureFile(encodeSignatureFile(signatures)), signatures);
  });

  it('has a bounded size, and keeps the newest', () => {
    const many = new Map(Array.from({ length: 65 }, (_, index) => [digest(index), [Buffer.alloc(3 << 20, 0x90)]]));
    const data = encodeSignatureFile(many);
    assert.ok(data.length <= 33 << 20);
    const counts = [...decodeSignatureFile(data).values()].map(({ length }) => length);
    assert.deepEqual(counts, [...Array<number>(8).fill(1), ...Array<number>(56).fill(0)]);
  });
});
