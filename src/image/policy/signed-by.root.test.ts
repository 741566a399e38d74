import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { buildImages } from '../../../test/fixtures/build.ts';
import { run } from '../../../test/fixtures/process.ts';
import { startRegistry } from '../../../test/fixtures/registry.ts';
import type { Registry } from '../../../test/fixtures/registry.ts';
import type { ImageService } from '../create-images.ts';
import { digestOf } from '../digest.ts';
import { mediaTypes } from '../media-types.ts';
import { hostPlatform } from '../platform.ts';
import { failure } from '../testing/bench.ts';
import { createFakeStore } from '../testing/fake-store.ts';
import { insecure, openImages, pull } from '../testing/open-images.ts';

/** Keys and signatures of the real gpg and skopeo, images in a real docker-registry. */
const folder = mkdtempSync(join(tmpdir(), 'signed-by-'));
/** The agent's socket has a short path only. */
const gnupg = mkdtempSync('/tmp/gpg-');
const env = { ...process.env, GNUPGHOME: gnupg };
const gpg = (...args: readonly string[]) => run('gpg', ['--batch', '--quiet', ...args], { env });

let registry: Registry;
let images: ImageService;
const policy = join(folder, 'policy.json');

before(async () => {
  for (const [name, algorithm] of [
    ['rsa', 'rsa3072'],
    ['ed', 'ed25519'],
    ['ec', 'nistp256'],
    ['stranger', 'ed25519'],
  ] as const) {
    gpg('--passphrase', '', '--quick-generate-key', `${name}@example.com`, algorithm, 'sign');
    gpg('--output', join(folder, `${name}.gpg`), '--export', `${name}@example.com`);
    gpg('--armor', '--output', join(folder, `${name}.asc`), '--export', `${name}@example.com`);
  }
  const small = await buildImages('small');
  cpSync(small.storage, join(folder, 'registry'), { recursive: true });
  registry = await startRegistry({ storage: join(folder, 'registry') });
  mkdirSync(join(folder, 'registries.d'));
  writeFileSync(join(folder, 'registries.d/a.yaml'), `default-docker:\n  sigstore: file://${folder}/sigs\n`);
  images = await openImages({
    store: createFakeStore(folder),
    folder,
    toml: insecure(registry.address),
    policy,
    places: { registriesD: [join(folder, 'registries.d')] },
  });
});

after(async () => {
  await images[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  run('gpgconf', ['--kill', 'all'], { env });
  for (const path of [folder, gnupg]) rmSync(path, { recursive: true, force: true });
});

function copySigned(key: string, name: string, flags: readonly string[] = []): void {
  const options = ['--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false', ...flags];
  const source = `docker://${registry.address}/docker.io/library/busybox:latest`;
  const registriesD = ['--registries.d', join(folder, 'registries.d')];
  run('skopeo', [...registriesD, 'copy', ...options, '--sign-by', `${key}@example.com`, source, `docker://${name}`], {
    env,
  });
}

function require(rule: object): void {
  writeFileSync(policy, JSON.stringify({ default: [{ type: 'signedBy', keyType: 'GPGKeys', ...rule }] }));
}

/** With the policy as it stands. */
async function verdicts(name: string): Promise<{ readonly ours: string; readonly skopeos: string }> {
  const to = join(folder, 'out-verdicts');
  const flags = ['--registries.d', join(folder, 'registries.d'), '--policy', policy, 'copy', '--remove-signatures'];
  const ours = await pull(images, name).then(
    () => 'accepted',
    () => 'refused',
  );
  run('skopeo', [...flags, '--src-tls-verify=false', `docker://${name}`, `dir:${to}`], { env, allow: [1] });
  const isCopied = existsSync(join(to, 'manifest.json'));
  rmSync(to, { recursive: true, force: true });
  return { ours, skopeos: isCopied ? 'accepted' : 'refused' };
}

describe('an image that skopeo signed with gpg', () => {
  for (const key of ['rsa', 'ed', 'ec']) {
    it(`is accepted with the ${key} key that signed it, and refused with another`, async () => {
      const name = `${registry.address}/signed/${key}:1`;
      copySigned(key, name);
      require({ keyPath: join(folder, 'stranger.gpg') });
      assert.match(await failure(pull(images, name)), /^SignatureValidationFailed: .*signed by key .* is not accepted/);
      require({ keyPaths: [join(folder, 'stranger.asc'), join(folder, `${key}.asc`)] });
      const id = await pull(images, name);
      require({ keyPath: join(folder, `${key}.gpg`) });
      assert.equal(await pull(images, name), id);
    });
  }

  it('is accepted when another signature lies before the good one', async () => {
    const name = `${registry.address}/signed/two:1`;
    copySigned('stranger', name);
    copySigned('rsa', name);
    assert.ok(readdirSync(join(folder, 'sigs/signed')).some((entry) => entry.startsWith('two@sha256=')));
    require({ keyPath: join(folder, 'rsa.gpg') });
    await pull(images, name);
  });

  it('is refused under another tag, unless the policy takes the repository', async () => {
    const name = `${registry.address}/signed/moved`;
    copySigned('rsa', `${name}:1`);
    const options = ['--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false'];
    run('skopeo', ['copy', ...options, `docker://${name}:1`, `docker://${name}:2`]);
    require({ keyPath: join(folder, 'rsa.gpg') });
    assert.match(await failure(pull(images, `${name}:2`)), /Signature for identity ".*moved:1" is not accepted/);
    require({ keyPath: join(folder, 'rsa.gpg'), signedIdentity: { type: 'matchRepository' } });
    await pull(images, `${name}:2`);
  });

  it('is refused when only the list that names it is signed, and accepted with a signature of its own, as by skopeo', async () => {
    const { address } = registry;
    const options = ['--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false'];
    const source = `docker://${address}/docker.io/library/busybox:latest`;
    run('skopeo', ['copy', ...options, '--format', 'oci', source, `docker://${address}/listed:entry`]);
    const entry = run('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${address}/listed:entry`]);
    const platform = { os: 'linux', architecture: hostPlatform.architecture };
    const descriptor = { mediaType: mediaTypes.ociManifest, digest: digestOf(Buffer.from(entry)), size: entry.length };
    const list = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [{ ...descriptor, platform }] };
    const body = JSON.stringify(list);
    const headers = { 'Content-Type': mediaTypes.ociIndex };
    const put = await fetch(`http://${address}/v2/listed/manifests/1`, { method: 'PUT', headers, body });
    assert.equal(put.status, 201);
    const name = `${address}/listed:1`;
    require({ keyPath: join(folder, 'rsa.gpg') });
    const sign = (manifest: string) => {
      const dir = join(folder, `sigs/listed@${digestOf(Buffer.from(manifest)).replace(':', '=')}`);
      mkdirSync(dir, { recursive: true });
      writeFileSync(join(folder, 'manifest.json'), manifest);
      const fingerprint = /^fpr:+([0-9A-F]+)/m.exec(gpg('--with-colons', '--list-keys', 'rsa@example.com'))?.[1] ?? '';
      const output = ['--output', join(dir, 'signature-1')];
      run('skopeo', ['standalone-sign', join(folder, 'manifest.json'), name, fingerprint, ...output], { env });
    };
    sign(body);
    assert.deepEqual(await verdicts(name), { ours: 'refused', skopeos: 'refused' });
    sign(entry);
    assert.deepEqual(await verdicts(name), { ours: 'accepted', skopeos: 'accepted' });
  });

  it('is refused when its signature has expired, though its key has not, as by skopeo', async () => {
    const name = `${registry.address}/expired:1`;
    const source = `docker://${registry.address}/docker.io/library/busybox:latest`;
    const options = ['--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false'];
    run('skopeo', ['copy', ...options, source, `docker://${name}`]);
    const manifest = run('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${name}`]);
    const digest = digestOf(Buffer.from(manifest));
    const at = ['--faked-system-time', '20240101T000000'];
    gpg(...at, '--passphrase', '', '--quick-generate-key', 'old@example.com', 'ed25519', 'sign', 'never');
    gpg('--output', join(folder, 'old.gpg'), '--export', 'old@example.com');
    require({ keyPath: join(folder, 'old.gpg') });
    const [payload, dir] = [join(folder, 'payload'), join(folder, `sigs/expired@${digest.replace(':', '=')}`)];
    const image = { 'docker-manifest-digest': digest };
    const critical = { type: 'atomic container signature', image, identity: { 'docker-reference': name } };
    writeFileSync(payload, JSON.stringify({ critical, optional: {} }));
    mkdirSync(dir, { recursive: true });
    for (const [lifetime, want] of [
      ['0', 'accepted'],
      ['1d', 'refused'],
    ] as const) {
      const lasting = ['--yes', '--default-sig-expire', lifetime, '--local-user', 'old@example.com'];
      gpg(...at, ...lasting, '--output', join(dir, 'signature-1'), '--sign', payload);
      assert.deepEqual(await verdicts(name), { ours: want, skopeos: want }, lifetime);
    }
  });

  it('is refused when its key has been revoked', async () => {
    const name = `${registry.address}/signed/revoked:1`;
    gpg('--passphrase', '', '--quick-generate-key', 'late@example.com', 'ed25519', 'sign');
    copySigned('late', name);
    gpg('--output', join(folder, 'late.gpg'), '--export', 'late@example.com');
    require({ keyPath: join(folder, 'late.gpg') });
    await pull(images, name);
    const fingerprint = /^fpr:+([0-9A-F]+)/m.exec(gpg('--with-colons', '--list-keys', 'late@example.com'))?.[1] ?? '';
    const revocation = join(gnupg, 'openpgp-revocs.d', `${fingerprint}.rev`);
    run('sed', ['-i', 's/^:---/---/', revocation]);
    gpg('--import', revocation);
    gpg('--output', join(folder, 'revoked.gpg'), '--export', 'late@example.com');
    require({ keyPath: join(folder, 'revoked.gpg') });
    assert.match(await failure(pull(images, name)), /SignatureValidationFailed: .*revoked/);
  });
});

describe('registries.d', () => {
  const anyTls = ['--src-tls-verify=false', '--dest-tls-verify=false'];
  const conf = join(folder, 'mirrors.conf');
  const places = join(folder, 'places');
  let mirrored: ImageService;

  before(async () => {
    mkdirSync(places);
    const { address } = registry;
    const toml = `${insecure(`${address}/origin`)}[[registry.mirror]]\nlocation = "${address}/copy"\ninsecure = true\n`;
    writeFileSync(conf, toml);
    const source = `docker://${address}/docker.io/library/busybox:latest`;
    const withKeys = ['--registries.d', places, 'copy', '--insecure-policy', ...anyTls, '--sign-by', 'rsa@example.com'];
    for (const where of ['copy', 'origin', 'other']) {
      const store = join(folder, `at-${where}`);
      writeFileSync(join(places, 'a.yaml'), `default-docker:\n  lookaside: file://${store}\n`);
      run('skopeo', [...withKeys, source, `docker://${address}/${where}/app:1`], { env });
      // The same signature under every name: whose identity is found tells which store was read.
      const [signed = ''] = readdirSync(join(store, where));
      for (const name of ['copy', 'origin'])
        if (name !== where) cpSync(join(store, where, signed), join(store, name, signed), { recursive: true });
    }
    const store = createFakeStore(folder);
    mirrored = await openImages({ store, folder, toml, policy, places: { registriesD: [places] } });
  });
  after(() => mirrored[Symbol.asyncDispose]());

  const exactly = (path: string) => ({ type: 'exactRepository', dockerRepository: `${registry.address}/${path}` });

  /** Whose signature is found: the identity in it tells where it comes from. */
  async function found(yaml: string): Promise<{ readonly ours: string; readonly skopeos: string }> {
    writeFileSync(join(places, 'a.yaml'), yaml.replaceAll('HOST', registry.address).replaceAll('DIR', folder));
    const name = `${registry.address}/origin/app:1`;
    const [ours, skopeos]: string[][] = [[], []];
    for (const where of ['copy', 'origin', 'other']) {
      require({ keyPath: join(folder, 'rsa.gpg'), signedIdentity: exactly(`${where}/app`) });
      await pull(mirrored, name).then(
        () => ours?.push(where),
        () => undefined,
      );
      const flags = ['--registries-conf', conf, '--registries.d', places, '--policy', policy];
      const [to, options] = [join(folder, `out-${where}`), { env, allow: [1] }];
      run('skopeo', [...flags, 'copy', '--remove-signatures', ...anyTls, `docker://${name}`, `dir:${to}`], options);
      if (readdirSync(folder).includes(`out-${where}`) && readdirSync(to).includes('manifest.json'))
        skopeos?.push(where);
      rmSync(to, { recursive: true, force: true });
    }
    return { ours: ours?.join() ?? '', skopeos: skopeos?.join() ?? '' };
  }

  const at = (where: string) => `lookaside: file://DIR/at-${where}`;
  const cases: readonly (readonly [string, string, string])[] = [
    [
      'is asked about the mirror that had the image',
      `docker:\n  HOST/origin:\n    ${at('origin')}\n  HOST/copy:\n    ${at('copy')}\n`,
      'copy',
    ],
    [
      'takes the most precise scope',
      `docker:\n  HOST:\n    ${at('other')}\n  HOST/copy/app:1:\n    ${at('copy')}\n  HOST/copy:\n    ${at('origin')}\n`,
      'copy',
    ],
    [
      'falls back to the default',
      `docker:\n  HOST/origin:\n    ${at('origin')}\ndefault-docker:\n  ${at('other')}\n`,
      'other',
    ],
    [
      'takes what a precise scope does not say from a wider one',
      `docker:\n  HOST/copy:\n    lookaside-staging: file://DIR/at-copy\n  HOST:\n    ${at('other')}\n`,
      'other',
    ],
    ['never reads where signatures are only written', 'default-docker:\n  lookaside-staging: file://DIR/at-copy\n', ''],
    ['knows the old name', 'default-docker:\n  sigstore: file://DIR/at-other\n', 'other'],
    ['takes a wildcard for hosts on any port', `docker:\n  "*.0.0.1":\n    ${at('other')}\n`, 'other'],
  ];
  for (const [what, yaml, want] of cases)
    it(`${what}, as with skopeo`, async () => assert.deepEqual(await found(yaml), { ours: want, skopeos: want }));

  it('is asked about the other places when the mirror has none, which skopeo does not do', async () => {
    const yaml = `docker:\n  HOST/copy:\n    lookaside: file://DIR/none\n  HOST/origin:\n    ${at('origin')}\n`;
    assert.deepEqual(await found(yaml), { ours: 'origin', skopeos: '' });
  });
});
