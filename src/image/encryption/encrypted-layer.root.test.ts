import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { buildImages } from '../../../test/fixtures/build.ts';
import { run } from '../../../test/fixtures/process.ts';
import { startRegistry } from '../../../test/fixtures/registry.ts';
import type { Registry } from '../../../test/fixtures/registry.ts';
import type { ImageService } from '../create-images.ts';
import { failure } from '../testing/bench.ts';
import { createFakeStore } from '../testing/fake-store.ts';
import { insecure, openImages, pull } from '../testing/open-images.ts';

/** Images that the real skopeo encrypted for keys of the real openssl. */
const folder = mkdtempSync(join(tmpdir(), 'encrypted-'));
let registry: Registry;
let images: ImageService;
let keys = '';

before(async () => {
  const small = await buildImages('small');
  cpSync(small.storage, join(folder, 'registry'), { recursive: true });
  registry = await startRegistry({ storage: join(folder, 'registry') });
  const options = { store: createFakeStore(folder), folder, decryptionKeysPath: () => keys };
  images = await openImages({ ...options, toml: insecure(registry.address) });
});

after(async () => {
  await images[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

function newKey(name: string, options: readonly string[]): string {
  mkdirSync(join(folder, name));
  run('openssl', ['genpkey', '-quiet', ...options, '-out', join(folder, name, 'key.pem')]);
  run('openssl', ['pkey', '-in', join(folder, name, 'key.pem'), '-pubout', '-out', join(folder, `${name}.pub`)]);
  return `jwe:${join(folder, `${name}.pub`)}`;
}

it('opens what skopeo encrypted for an RSA key, for EC keys of three curves, and for several', async () => {
  const curves = ['P-256', 'P-384', 'P-521'];
  const rsa = newKey('rsa', ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048']);
  const ec = curves.map((curve) => newKey(curve, ['-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`]));
  newKey('stranger', ['-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384']);
  for (const [tag, recipients, readers] of [
    ['rsa', [rsa], ['rsa']],
    ['ec', ec, curves],
    ['both', [rsa, ...ec], ['rsa', ...curves]],
  ] as const) {
    const name = `${registry.address}/encrypted/${tag}:1`;
    run('skopeo', [
      'copy',
      '--insecure-policy',
      '--src-tls-verify=false',
      '--dest-tls-verify=false',
      '--format',
      'oci',
      ...recipients.flatMap((key) => ['--encryption-key', key]),
      `docker://${registry.address}/docker.io/library/busybox:latest`,
      `docker://${name}`,
    ]);
    keys = join(folder, 'stranger');
    assert.match(await failure(pull(images, name)), /missing private key needed for decryption \(1 tried\)/);
    for (const reader of readers) {
      keys = join(folder, reader);
      const id = await pull(images, name);
      assert.equal((await images.find(name))?.id, id);
    }
  }
});
