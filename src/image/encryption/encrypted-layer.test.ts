import assert from 'node:assert/strict';
import { constants, createCipheriv, createHmac, generateKeyPairSync, publicEncrypt, randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { mediaTypes } from '../media-types.ts';
import { failure, noise, openBench } from '../testing/bench.ts';
import type { Bench } from '../testing/bench.ts';
import { putImage } from '../testing/fake-registry.ts';
import type { Descriptor } from '../manifest.ts';
import { openLayerKeys } from './encrypted-layer.ts';
import { decryptJwe } from './jwe.ts';

const recipient = generateKeyPairSync('rsa', { modulusLength: 2048 });
const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = (pair: { readonly privateKey: KeyObject }) => pair.privateKey.export({ type: 'pkcs8', format: 'pem' });

function wrapForRecipient(payload: Buffer, alg: 'RSA-OAEP' | 'RSA-OAEP-256' = 'RSA-OAEP'): string {
  const contentKey = randomBytes(32);
  const head = Buffer.from(JSON.stringify({ alg, enc: 'A256GCM' })).toString('base64url');
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', contentKey, iv).setAAD(Buffer.from(head));
  const ciphertext = Buffer.concat([cipher.update(payload), cipher.final()]);
  const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: alg === 'RSA-OAEP' ? 'sha1' : 'sha256' };
  const encrypted = publicEncrypt({ key: recipient.publicKey, ...oaep }, contentKey);
  const jwe = {
    protected: head,
    encrypted_key: encrypted.toString('base64url'),
    iv: iv.toString('base64url'),
    ciphertext: ciphertext.toString('base64url'),
    tag: cipher.getAuthTag().toString('base64url'),
  };
  return Buffer.from(JSON.stringify(jwe)).toString('base64');
}

/** Replaces the only layer of the image by its encrypted form. */
function putEncrypted({ registry }: Bench, change: { cipher?: string; hmac?: Buffer } = {}) {
  const content = noise(100_000);
  const image = putImage(registry, 'a', '1', { layers: [content] });
  const [key, nonce] = [randomBytes(32), randomBytes(16)];
  const cipher = createCipheriv('aes-256-ctr', key, nonce);
  const blob = Buffer.concat([cipher.update(gzipSync(content)), cipher.final()]);
  const hmac = change.hmac ?? createHmac('sha256', key).update(blob).digest();
  const options = {
    cipher: change.cipher ?? 'AES_256_CTR_HMAC_SHA256',
    hmac: hmac.toString('base64'),
    cipheroptions: {},
  };
  const secret = { symkey: key.toString('base64'), cipheroptions: { nonce: nonce.toString('base64') } };
  registry.putManifest('a', '1', {
    ...image.manifest,
    layers: [
      {
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted',
        ...registry.putBlob(blob),
        annotations: {
          'org.opencontainers.image.enc.keys.jwe': wrapForRecipient(Buffer.from(JSON.stringify(secret))),
          'org.opencontainers.image.enc.pubopts': Buffer.from(JSON.stringify(options)).toString('base64'),
        },
      },
    ],
  });
  return { id: image.id, manifest: image.manifest };
}

describe('an encrypted layer', () => {
  it('is opened with a key of the folder, which is read at each pull', async () => {
    await using bench = await openBench();
    const { id } = putEncrypted(bench);
    const name = `${bench.registry.host}/a:1`;
    assert.match(await failure(bench.pull(name)), /missing private key needed for decryption \(0 tried\)/);
    await mkdir(join(bench.dir, 'keys/team'), { recursive: true });
    await writeFile(join(bench.dir, 'keys/other.pem'), pem(stranger));
    await writeFile(join(bench.dir, 'keys/note'), 'no key');
    assert.match(await failure(bench.pull(name)), /missing private key needed for decryption \(1 tried\)/);
    await writeFile(join(bench.dir, 'keys/team/key.pem'), pem(recipient));
    assert.equal(await bench.pull(name), id);
    await rm(join(bench.dir, 'keys'), { recursive: true });
    assert.match(await failure(bench.pull(name)), /missing private key/, 'also when its layers are there');
  });

  it('is refused with a wrong HMAC, an unknown cipher, no wrapped key, or keys behind a link', async () => {
    await using bench = await openBench();
    const { registry, dir, store } = bench;
    const pull = () => failure(bench.pull(`${registry.host}/a:1`));
    await mkdir(join(dir, 'keys'));
    await writeFile(join(dir, 'keys/key.pem'), pem(recipient));
    putEncrypted(bench, { hmac: randomBytes(32) });
    assert.match(await pull(), /its HMAC does not match/);
    const { manifest } = putEncrypted(bench, { cipher: 'ROT13' });
    assert.match(await pull(), /unsupported cipher "ROT13"/);
    const [layer] = manifest.layers;
    const pubopts = Buffer.from('{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":""}').toString('base64');
    registry.putManifest('a', '1', {
      ...manifest,
      layers: [
        {
          ...layer,
          mediaType: `${mediaTypes.ociManifest.replace('manifest.v1+json', 'layer.v1.tar+gzip')}+encrypted`,
          annotations: { 'org.opencontainers.image.enc.pubopts': pubopts },
        },
      ],
    });
    assert.match(await pull(), /its key is not wrapped with JWE/);
    await symlink('key.pem', join(dir, 'keys/link'));
    assert.match(await pull(), /symbolic link ".*keys\/link" is not allowed/);
    assert.deepEqual(store.unpacked, []);
  });
});

describe('decryptJwe', () => {
  const open = (jwe: object) =>
    decryptJwe(Buffer.from(JSON.stringify(jwe)), [recipient.privateKey, stranger.privateKey], async () => {});
  const head = (fields: object) => Buffer.from(JSON.stringify({ enc: 'A256GCM', ...fields })).toString('base64url');

  it('opens RSA-OAEP with SHA-1 and with SHA-256', async () => {
    for (const alg of ['RSA-OAEP', 'RSA-OAEP-256'] as const) {
      const jwe: object = JSON.parse(Buffer.from(wrapForRecipient(Buffer.from('secret'), alg), 'base64').toString());
      assert.equal((await open(jwe))?.toString(), 'secret', alg);
    }
  });

  it('CVE-2026-34986: empty parts, points off the curve and thousands of recipients cost nothing', async () => {
    const epk = { kty: 'EC', crv: 'P-256', x: 'AAAA', y: 'AAAA' };
    for (const fields of [
      { alg: 'ECDH-ES+A256KW', epk },
      { alg: 'ECDH-ES+A256KW' },
      { alg: 'RSA-OAEP' },
      { alg: 'dir' },
      {},
    ]) {
      const empty = { protected: head(fields), encrypted_key: '', iv: '', ciphertext: '', tag: '' };
      assert.equal(await open(empty), undefined);
      assert.equal(await open({ protected: head(fields) }), undefined);
    }
    const recipients = Array.from({ length: 10_000 }, () => ({ header: { alg: 'RSA-OAEP' }, encrypted_key: 'AA' }));
    await assert.rejects(open({ protected: head({}), recipients }), /too many recipients/);
    await assert.rejects(open({ protected: head({ enc: 'A128CBC-HS256' }) }), /unsupported enc/);
    await assert.rejects(open([]), /JWE/);
  });
});

describe('openLayerKeys', () => {
  const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64');
  const options = { cipher: 'AES_256_CTR_HMAC_SHA256', hmac: randomBytes(32).toString('base64') };
  const layerOf = (jwes: readonly string[], digit: number): Descriptor => ({
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted',
    digest: `sha256:${String(digit).padStart(64, '0')}`,
    size: 1,
    annotations: new Map([
      ['org.opencontainers.image.enc.keys.jwe', jwes.join(',')],
      ['org.opencontainers.image.enc.pubopts', base64(options)],
    ]),
  });
  const fitting = () =>
    wrapForRecipient(
      Buffer.from(
        JSON.stringify({
          symkey: randomBytes(32).toString('base64'),
          cipheroptions: { nonce: randomBytes(16).toString('base64') },
        }),
      ),
    );
  const useless = (count: number) =>
    base64({
      protected: Buffer.from(JSON.stringify({ alg: 'RSA-OAEP', enc: 'A256GCM' })).toString('base64url'),
      recipients: Array.from({ length: count }, () => ({ encrypted_key: 'AA' })),
    });

  it('CVE-2026-34986: thousands of wrapped keys are refused, in one layer at once', async () => {
    const many = layerOf(
      Array.from({ length: 2000 }, () => 'not looked at'),
      1,
    );
    await assert.rejects(openLayerKeys([many], [recipient.privateKey]), /2000 wrapped keys, more than 64/);
    // Sixty recipients each, for whom a key of another kind costs nothing.
    const layer = layerOf(
      Array.from({ length: 64 }, () => useless(60)),
      1,
    );
    await assert.rejects(openLayerKeys([layer], [stranger.privateKey]), /more than 1000 recipients/);
  });

  it('passes over wrapped keys that it cannot read, and names them when none fits', async () => {
    const other = base64({ protected: Buffer.from('{"alg":"RSA-OAEP","enc":"A128CBC-HS256"}').toString('base64url') });
    const bad = ['!!!!', other, base64([]), base64({ protected: 'no header' })];
    assert.equal((await openLayerKeys([layerOf([...bad, fitting()], 1)], [recipient.privateKey])).size, 1);
    await assert.rejects(openLayerKeys([layerOf([...bad, useless(1)], 1)], [recipient.privateKey]), {
      kind: 'failed-precondition',
      message: /is encrypted: missing private key .*\(1 tried\); .*JWE.*; JWE: unsupported enc "A128CBC-HS256"/,
    });
  });

  it('stops at the first key that fits, and lets others have their turn', async () => {
    let turns = 0;
    const timer = setInterval(() => (turns += 1), 0).unref();
    const layers = Array.from({ length: 10 }, (_, at) => layerOf([useless(5), fitting(), 'not looked at'], at));
    const opened = await openLayerKeys(layers, [recipient.privateKey]);
    clearInterval(timer);
    assert.equal(opened.size, 10);
    assert.ok(turns > 0);
  });
});
