import assert from 'node:assert/strict';
import { mkdir, readdir, rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import * as openpgp from 'openpgp';
import type { PrivateKey } from 'openpgp';
import { defaultConfig } from '../../config/config.ts';
import { failure, openBench } from '../testing/bench.ts';
import type { Bench } from '../testing/bench.ts';
import { putImage } from '../testing/fake-registry.ts';
import { openSignedMessage } from './simple-signing.ts';

async function newKey(options: { date?: Date; keyExpirationTime?: number } = {}): Promise<PrivateKey> {
  const userIDs = [{ name: 'Test', email: 'test@example.com' }];
  return (await openpgp.generateKey({ userIDs, format: 'object', ...options })).privateKey;
}

async function sign(payload: unknown, keys: readonly PrivateKey[], date?: Date): Promise<Buffer> {
  const message = await openpgp.createMessage({ binary: Buffer.from(JSON.stringify(payload)), ...(date && { date }) });
  const when = date === undefined ? {} : { date };
  return Buffer.from(await openpgp.sign({ message, signingKeys: [...keys], format: 'binary', ...when }));
}

function claim(digest: string, name: string, type = 'atomic container signature') {
  const image = { 'docker-manifest-digest': digest };
  return {
    critical: { type, image, identity: { 'docker-reference': name } },
    optional: { creator: 't', timestamp: 1 },
  };
}

let trusted: PrivateKey;
let stranger: PrivateKey;
before(async () => {
  [trusted, stranger] = await Promise.all([newKey(), newKey()]);
});

const binary = (key: PrivateKey) => Buffer.from(key.toPublic().write());

/** The policy asks for a signature by `trusted`, kept in `<dir>/sigs`. */
async function openSigned(rule: (dir: string) => object = () => ({})): Promise<Bench> {
  const bench = await openBench();
  await mkdir(join(bench.dir, 'registries.d'));
  await writeFile(join(bench.dir, 'registries.d/a.yaml'), `default-docker:\n  lookaside: file://${bench.dir}/sigs\n`);
  await writeFile(join(bench.dir, 'key.gpg'), binary(trusted));
  const keys = { keyData: binary(trusted).toString('base64') };
  const own = rule(bench.dir);
  const hasKeys = Object.keys(own).some((key) => key.startsWith('key'));
  const requirement = { type: 'signedBy', keyType: 'GPGKeys', ...(hasKeys ? {} : keys), ...own };
  await writeFile(bench.policyFile, JSON.stringify({ default: [requirement] }));
  return bench;
}

async function put({ dir }: Bench, digest: string, signatures: readonly Buffer[], repository = 'a'): Promise<void> {
  const folder = join(dir, 'sigs', `${repository}@${digest.replace(':', '=')}`);
  await mkdir(folder, { recursive: true });
  for (const [index, data] of signatures.entries()) await writeFile(join(folder, `signature-${index + 1}`), data);
}

describe('signedBy', () => {
  it('accepts an image with a good signature among others, and keeps them all for the check before its use', async () => {
    await using bench = await openSigned();
    const { registry, images, dir, policyFile } = bench;
    const image = putImage(registry, 'a', '1');
    const name = `${registry.host}/a:1`;
    const good = claim(image.manifestDigest, name);
    await put(bench, image.manifestDigest, [await sign(good, [stranger]), await sign(good, [trusted])]);
    assert.equal(await bench.pull(name), image.id);
    await images.reload({ image: { ...defaultConfig().image, signaturePolicyDir: dir, signaturePolicy: policyFile } });
    await images.verifyUse({ imageId: image.id, userSpecifiedImage: name, namespace: 'x' });
    const other = images.verifyUse({ imageId: image.id, userSpecifiedImage: `${registry.host}/b:1`, namespace: 'x' });
    assert.match(await failure(other), /^SignatureValidationFailed: .*requirement "signedBy"/);
  });

  it('keeps signatures that the policy of the pull does not ask for, and pulls without them', async () => {
    await using bench = await openSigned();
    const { registry, images, dir, policyFile } = bench;
    const image = putImage(registry, 'a', '1');
    const name = `${registry.host}/a:1`;
    await put(bench, image.manifestDigest, [await sign(claim(image.manifestDigest, name), [trusted])]);
    const strict = join(dir, 'strict.json');
    await rename(policyFile, strict);
    await writeFile(policyFile, '{"default":[{"type":"insecureAcceptAnything"}]}');
    await bench.pull(name);
    await images.reload({ image: { ...defaultConfig().image, signaturePolicyDir: dir, signaturePolicy: strict } });
    const use = { imageId: image.id, userSpecifiedImage: name, namespace: 'x' };
    await images.verifyUse(use);
    const unread = `docker:\n  ${registry.host}:\n    lookaside: http://127.0.0.1:1/\n`;
    await writeFile(join(dir, 'registries.d/a.yaml'), unread);
    await images.reload({ image: { ...defaultConfig().image, signaturePolicyDir: '' } });
    assert.equal(await bench.pull(name), image.id);
  });

  it('keeps signatures when somebody pulls the image under a name that has none', async () => {
    await using bench = await openSigned();
    const { registry, images, dir, policyFile } = bench;
    const image = putImage(registry, 'a', '1');
    registry.putManifest('b', '1', image.manifest);
    const name = `${registry.host}/a:1`;
    const { manifestDigest } = image;
    await put(bench, manifestDigest, [await sign(claim(manifestDigest, name), [trusted])]);
    await bench.pull(name);
    await images.reload({ image: { ...defaultConfig().image, signaturePolicyDir: dir, signaturePolicy: policyFile } });
    const use = () => images.verifyUse({ imageId: image.id, userSpecifiedImage: name, namespace: 'x' });
    await use();
    await writeFile(join(dir, 'open.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
    assert.equal(await bench.pull(`${registry.host}/b:1`, { namespace: 'open' }), image.id);
    await use();
    await put(bench, manifestDigest, [await sign(claim(manifestDigest, `${registry.host}/b:1`), [trusted])], 'b');
    for (const each of ['b', 'a', 'b']) await bench.pull(`${registry.host}/${each}:1`, { namespace: 'open' });
    await use();
    const [stored] = await bench.store.images.list();
    const sizes = JSON.parse(stored?.metadata ?? '') as { 'signatures-sizes': Record<string, number[]> };
    assert.equal(sizes['signatures-sizes'][manifestDigest]?.length, 2);
  });

  it('holds no more than 16 MiB of signatures', async () => {
    await using bench = await openSigned();
    const image = putImage(bench.registry, 'a', '1');
    const huge = Buffer.alloc(4 << 20, 0x90);
    await put(bench, image.manifestDigest, [huge, huge, huge, huge, Buffer.from('x')]);
    const refused = await failure(bench.pull(`${bench.registry.host}/a:1`));
    assert.match(refused, /read signatures below "file:.*": more than 16777216 bytes/);
  });

  it('never shows the password of a lookaside', async () => {
    await using bench = await openSigned();
    const { registry, images, dir } = bench;
    putImage(registry, 'a', '1');
    const yaml = `docker:\n  ${registry.host}:\n    lookaside: http://user:hunter2@127.0.0.1:1/\n`;
    await writeFile(join(dir, 'registries.d/a.yaml'), yaml);
    const refused = await failure(bench.pull(`${registry.host}/a:1`));
    assert.match(refused, /read signature "http:\/\/xxxxx:xxxxx@127\.0\.0\.1:1\/a@sha256=/);
    const { text } = await images.explainPolicy(`${registry.host}/a:1`, '');
    assert.match(text, /lookaside http:\/\/xxxxx:xxxxx@127/);
    assert.doesNotMatch(refused + text, /hunter2/);
  });

  it('takes keys of a file, of several files, armored or not', async () => {
    for (const rule of [
      (dir: string) => ({ keyPath: join(dir, 'key.gpg') }),
      (dir: string) => ({ keyPaths: [join(dir, 'other.asc'), join(dir, 'key.gpg')] }),
      () => ({ keyData: Buffer.from(trusted.toPublic().armor()).toString('base64') }),
      () => ({ keyData: Buffer.concat([binary(stranger), binary(trusted)]).toString('base64') }),
    ]) {
      await using bench = await openSigned(rule);
      await writeFile(join(bench.dir, 'other.asc'), stranger.toPublic().armor());
      const image = putImage(bench.registry, 'a', '1');
      const name = `${bench.registry.host}/a:1`;
      await put(bench, image.manifestDigest, [await sign(claim(image.manifestDigest, name), [trusted])]);
      assert.equal(await bench.pull(name), image.id);
    }
  });

  it('takes every kind of signed identity', async () => {
    const cases: readonly (readonly [object, string, boolean])[] = [
      [{ type: 'matchExact' }, 'HOST/a:1', true],
      [{ type: 'matchExact' }, 'HOST/a:2', false],
      [{ type: 'matchRepoDigestOrExact' }, 'HOST/a:1', true],
      [{ type: 'matchRepository' }, 'HOST/a:2', true],
      [{ type: 'matchRepository' }, 'HOST/b:1', false],
      [{ type: 'exactReference', dockerReference: 'v.io/x:1' }, 'v.io/x:1', true],
      [{ type: 'exactRepository', dockerRepository: 'v.io/x' }, 'v.io/x:7', true],
      [{ type: 'exactRepository', dockerRepository: 'v.io/x' }, 'HOST/a:1', false],
      [{ type: 'remapIdentity', prefix: 'HOST', signedPrefix: 'v.io' }, 'v.io/a:1', true],
      [{ type: 'remapIdentity', prefix: 'HOST', signedPrefix: 'v.io' }, 'HOST/a:1', false],
    ];
    for (const [identity, signedName, isGood] of cases) {
      await using bench = await openSigned();
      const { registry, policyFile } = bench;
      const withHost = (text: string) => text.replaceAll('HOST', registry.host);
      const keyData = binary(trusted).toString('base64');
      const rule = { type: 'signedBy', keyType: 'GPGKeys', keyData, signedIdentity: identity };
      await writeFile(policyFile, withHost(JSON.stringify({ default: [rule] })));
      const image = putImage(registry, 'a', '1');
      await put(bench, image.manifestDigest, [
        await sign(claim(image.manifestDigest, withHost(signedName)), [trusted]),
      ]);
      const pulled = bench.pull(`${registry.host}/a:1`);
      if (isGood) assert.equal(await pulled, image.id, JSON.stringify(identity));
      else assert.match(await failure(pulled), /is not accepted/, JSON.stringify(identity));
    }
  });

  it('refuses none, a stranger, two signers, garbage, another image, another kind of claim', async () => {
    await using bench = await openSigned();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    const name = `${registry.host}/a:1`;
    const good = claim(image.manifestDigest, name);
    const refused = async (signature: Buffer, want: RegExp) => {
      await put(bench, image.manifestDigest, [signature]);
      assert.match(await failure(bench.pull(name)), want);
    };
    assert.match(await failure(bench.pull(name)), /^SignatureValidationFailed: .*A signature was required/);
    await refused(await sign(good, [stranger]), /signed by key [0-9A-F]{16}, which is not accepted/);
    await refused(await sign(good, [trusted, stranger]), /Unexpected number of signatures: 2/);
    await refused(Buffer.from(JSON.stringify(good)), /not an OpenPGP message/);
    await refused(await sign(claim(`sha256:${'d'.repeat(64)}`, name), [trusted]), /is for another image/);
    await refused(
      await sign(claim(image.manifestDigest, name, 'cosign container image signature'), [trusted]),
      /critical\.type: expected/,
    );
    await refused(await sign({ ...good, more: 1 }, [trusted]), /unknown key "more"/);
    assert.ok(image.layerDigests.every((digest) => registry.requests.every(({ line }) => !line.includes(digest))));
    assert.deepEqual(await readdir(join(bench.dir, 'sigs')), [`a@${image.manifestDigest.replace(':', '=')}`]);
  });

  it('refuses a key that has expired since it signed, and a changed message', async () => {
    const longAgo = new Date(Date.now() - 7_200_000);
    const expired = await newKey({ date: longAgo, keyExpirationTime: 3600 });
    const data = await sign({ a: 1 }, [expired], longAgo);
    await assert.rejects(openSignedMessage(data, [expired.toPublic()]), /expired/);
    const changed = await sign({ a: 1 }, [trusted]);
    assert.equal((await openSignedMessage(changed, [trusted.toPublic()])).toString(), '{"a":1}');
    changed[changed.indexOf('{"a":1}') + 5] = 0x32;
    await assert.rejects(openSignedMessage(changed, [trusted.toPublic()]));
  });

  it('CVE-2025-47934: a signed message with another message around it says nothing', async () => {
    const signed = await sign({ a: 1 }, [trusted]);
    const forged = await openpgp.createMessage({ binary: Buffer.from('{"a":2}') });
    const literal = Buffer.from(forged.write());
    for (const data of [Buffer.concat([signed, literal]), Buffer.concat([literal, signed]), literal]) {
      await assert.rejects(openSignedMessage(data, [trusted.toPublic()]));
    }
  });

  it('names what is wrong in a requirement', async () => {
    for (const [rule, want] of [
      [{ keyType: 'X509Certificates', keyPath: '/a' }, /keyType "X509Certificates" is not supported/],
      [{ keyType: 'x', keyPath: '/a' }, /invalid keyType "x"/],
      [{ keyPaths: [] }, /"keyPaths" contains no entries/],
      [{ keyPath: '/a', keyData: 'AA==' }, /keyPath and keyData exclude each other/],
      [{ keyPath: '/nonexistent' }, /read public key "\/nonexistent": .*ENOENT/],
      [{ keyData: 'AAAA' }, /read public key|no public keys/],
      [{ keyring: 1 }, /unknown key "keyring"|exactly one/],
    ] as const) {
      await using bench = await openSigned(() => rule);
      putImage(bench.registry, 'a', '1');
      assert.match(await failure(bench.pull(`${bench.registry.host}/a:1`)), want);
    }
  });

  it('reads signatures over HTTP, and takes a server that fails for no answer', async () => {
    await using bench = await openSigned();
    const image = putImage(bench.registry, 'a', '1');
    const name = `${bench.registry.host}/a:1`;
    const signature = await sign(claim(image.manifestDigest, name), [trusted]);
    let status = 500;
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.url} ${request.headers.authorization}`);
      const isFirst = asked.filter((line) => line === asked.at(-1)).length === 1;
      if (status === 200 && isFirst) response.writeHead(503, { 'retry-after': '0' }).end();
      else response.writeHead(request.url?.endsWith('/signature-2') === true ? 404 : status).end(signature);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    // The address of a TCP server is an object.
    const { port } = server.address() as AddressInfo;
    const yaml = `docker:\n  ${bench.registry.host}:\n    sigstore: http://127.0.0.1:${port}/base/\n`;
    await writeFile(join(bench.dir, 'registries.d/a.yaml'), yaml);
    const pull = (password: string) => bench.pull(name, { credentials: { username: 'u', password } });
    assert.match(await failure(pull('1')), /read signature "http:.*signature-1": 500 /);
    assert.ok(asked.length > 1, 'asked again, as a registry is');
    status = 404;
    assert.match(await failure(pull('2')), /no signature exists/);
    status = 200;
    asked.length = 0;
    assert.equal(await pull('3'), image.id);
    const path = `/base/a@${image.manifestDigest.replace(':', '=')}/signature-`;
    assert.deepEqual(
      asked,
      [1, 1, 2, 2].map((number) => `${path}${number} undefined`),
    );
    server.closeAllConnections();
    server.close();
  });

  it('does not keep a pull that needs no signature waiting for a server that wants to be asked later', async () => {
    await using bench = await openBench({ limits: { maxRetryAfterMs: 60_000 } });
    const image = putImage(bench.registry, 'a', '1');
    let asked = 0;
    const server = createServer((_, response) => {
      asked += 1;
      response.writeHead(503, { 'retry-after': '6' }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    // The address of a TCP server is an object.
    const { port } = server.address() as AddressInfo;
    await mkdir(join(bench.dir, 'registries.d'));
    await writeFile(join(bench.dir, 'registries.d/a.yaml'), `default-docker:\n  lookaside: http://127.0.0.1:${port}\n`);
    await writeFile(bench.policyFile, '{"default":[{"type":"insecureAcceptAnything"}]}');
    assert.equal(await bench.pull(`${bench.registry.host}/a:1`), image.id);
    assert.equal(asked, 1);
    server.closeAllConnections();
    server.close();
  });
});
