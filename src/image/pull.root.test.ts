import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TLSSocket } from 'node:tls';
import { buildImages } from '../../test/fixtures/build.ts';
import { podmanOn, podmanRunOptions } from '../../test/fixtures/podman.ts';
import { run } from '../../test/fixtures/process.ts';
import { startRegistry } from '../../test/fixtures/registry.ts';
import type { Registry } from '../../test/fixtures/registry.ts';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import type { Store } from '../storage/store.ts';
import { openOverlayStore } from '../storage/testing/open-overlay-store.ts';
import type { ImageService, ImagePlaces } from './create-images.ts';
import { digestOf } from './digest.ts';
import { failure } from './testing/bench.ts';
import { insecure, openImages, pull } from './testing/open-images.ts';
import { makeCertificates, startSecureRegistry } from '../../test/fixtures/secure-registry.ts';

/** Real docker-registry, skopeo and podman; everything lies in one temporary folder. */
const folder = mkdtempSync(join(tmpdir(), 'images-root-'));
/** podman refuses long names here. */
const runRoot = mkdtempSync('/run/images-');
const roots = { root: join(folder, 'root'), runroot: runRoot };
const podman = podmanOn({ root: roots.root, runRoot: roots.runroot, driver: 'overlay' });
const storageName = `containers-storage:[overlay@${roots.root}+${roots.runroot}]`;
const source = 'docker.io/library/busybox';

let registry: Registry;
let store: Store;
let images: ImageService;

function open(host: string, places: Partial<ImagePlaces> = {}, toml = insecure(host)): Promise<ImageService> {
  return openImages({ store, folder, toml, places });
}

/** An htpasswd(1) file; bcrypt of libxcrypt, through the Perl that every Debian has. */
function writePasswords(user: string, password: string): string {
  const file = join(folder, 'htpasswd');
  const hash = run('perl', ['-e', `print crypt('${password}', '$2b$05$abcdefghijklmnopqrstuu')`]);
  writeFileSync(file, `${user}:${hash}\n`);
  return file;
}

before(async () => {
  const small = await buildImages('small');
  cpSync(small.storage, join(folder, 'registry'), { recursive: true });
  registry = await startRegistry({ storage: join(folder, 'registry') });
  store = await openOverlayStore(roots.root, roots.runroot);
  images = await open(registry.address);
});

after(async () => {
  await images[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  run('sh', ['-c', `grep -oE ' (${folder}|${runRoot})[^ ]*' /proc/self/mountinfo | sort -r | xargs -r umount -l`], {
    allow: [123],
  });
  for (const path of [folder, runRoot]) rmSync(path, { recursive: true, force: true });
});

describe('an image pulled by us', () => {
  const from = () => `docker://${registry.address}/${source}:latest`;
  const copies: readonly (readonly [string, readonly string[]])[] = [
    ['oci-gzip', ['--format', 'oci']],
    ['docker-gzip', ['--format', 'v2s2']],
  ];
  for (const [tag, flags] of copies) {
    it(`runs with podman and is copied out byte for byte: ${tag}`, async () => {
      const name = `${registry.address}/made/${tag}:1`;
      run('skopeo', [
        'copy',
        '--insecure-policy',
        '--src-tls-verify=false',
        '--dest-tls-verify=false',
        ...flags,
        from(),
        `docker://${name}`,
      ]);
      const raw = run('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${name}`]);
      const id = await pull(images, name);
      const image = await images.find(name);
      assert.ok(
        image?.repoDigests.includes(`${registry.address}/made/${tag}@${digestOf(Buffer.from(raw))}`),
        image?.repoDigests.join(' ') ?? 'no image',
      );
      assert.equal(podman('run', ...podmanRunOptions, name, 'echo', 'hello').trim(), 'hello');
      assert.equal(podman('images', '--format', '{{.Digest}}', '--no-trunc', name).trim(), digestOf(Buffer.from(raw)));
      const out = join(folder, `out-${tag}`);
      run('skopeo', ['copy', '--insecure-policy', `${storageName}${name}`, `dir:${out}`]);
      // A store keeps layers unpacked: compressed ones come out as plain tar files with the diffIDs as digests.
      const copied = JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8')) as {
        config: { digest: string };
        layers: { digest: string }[];
      };
      assert.equal(copied.config.digest, `sha256:${id}`);
      const config = JSON.parse(readFileSync(join(out, id), 'utf8')) as { rootfs: { diff_ids: string[] } };
      assert.deepEqual(
        copied.layers.map((layer) => layer.digest),
        config.rootfs.diff_ids,
      );
      podman('rmi', name);
      assert.equal(await images.find(name), undefined);
    });
  }

  it('is made from Docker schema 1, signed by the registry, and found by the digest of the original', async () => {
    await using old = await startSecureRegistry(folder, { compatibility: { schema1: { enabled: true } } });
    await using service = await open(old.host);
    const name = `${old.host}/made/schema1:1`;
    run('skopeo', [
      ...['copy', '--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false', '--format', 'v2s1'],
      ...[from(), `docker://${name}`],
    ]);
    const digest = run('skopeo', [
      'inspect',
      '--format',
      '{{.Digest}}',
      '--tls-verify=false',
      `docker://${name}`,
    ]).trim();
    const id = await pull(service, name);
    assert.equal(await pull(service, `${old.host}/made/schema1@${digest}`), id);
    assert.equal((await service.find(`${old.host}/made/schema1@${digest}`))?.id, id);
    assert.equal(podman('run', ...podmanRunOptions, name, 'echo', 'hello').trim(), 'hello');
    const out = join(folder, 'out-schema1');
    run('skopeo', ['copy', '--insecure-policy', `${storageName}${name}`, `dir:${out}`]);
    podman('rmi', id, '--force');
  });

  it('pulled by podman is an image of ours, and the other way round for its removal', async () => {
    const name = `${registry.address}/${source}:latest`;
    podman('pull', '--tls-verify=false', '--quiet', name);
    const image = await images.find(name);
    assert.deepEqual(image?.repoTags, [name]);
    assert.equal(await pull(images, name), image.id);
    await images.remove(new Call({ name: 'remove', id: 't', log: silentLog }), name);
    assert.equal(podman('images', '--quiet').trim(), '');
  });

  it('goes with all its layers, and nothing else stays', async () => {
    const name = `${registry.address}/${source}:latest`;
    await pull(images, name);
    assert.ok((await images.usage()).usedBytes > 100_000);
    await images.remove(new Call({ name: 'remove', id: 't', log: silentLog }), name);
    assert.deepEqual(JSON.parse(readFileSync(join(roots.root, 'overlay-layers/layers.json'), 'utf8')), []);
    assert.equal((await images.usage()).usedBytes, 0);
  });
});

describe('registries with secrets', () => {
  it('takes credentials that podman login left, and says what was refused', async () => {
    const htpasswd = writePasswords('user', 'secret');
    await using closed = await startSecureRegistry(folder, { auth: { htpasswd: { realm: 'test', path: htpasswd } } });
    const authFile = join(folder, 'auth.json');
    run('skopeo', ['login', '--tls-verify=false', '--authfile', authFile, '-u', 'user', '-p', 'secret', closed.host]);
    await using service = await open(closed.host, { authFiles: [authFile] });
    await using stranger = await open(closed.host);
    const name = `${closed.host}/${source}:latest`;
    assert.match(await failure(pull(stranger, name)), /\(no credentials\): 401 unauthorized/);
    assert.match(
      await failure(pull(stranger, name, { username: 'user', password: 'wrong' })),
      /\(credentials of the request\): 401 unauthorized/,
    );
    await pull(service, name);
    await pull(stranger, name, { username: 'user', password: 'secret' });
    await service.remove(new Call({ name: 'remove', id: 't', log: silentLog }), name);
  });

  it('are asked on the default ports of TLS and HTTP, with their password, and with their folder of certs.d', async () => {
    const auth = { htpasswd: { realm: 'test', path: writePasswords('user', 'secret') } };
    const certs = makeCertificates(folder);
    const tls = { certificate: certs.server.cert, key: certs.server.key };
    await using https = await startSecureRegistry(folder, { auth, port: 443, http: { tls } });
    await using http = await startSecureRegistry(folder, { auth, port: 80 });
    const certificateDirs = [join(folder, 'default-port.d')];
    mkdirSync(join(folder, 'default-port.d', https.host), { recursive: true });
    cpSync(certs.authority, join(folder, 'default-port.d', https.host, 'ca.crt'));
    await using service = await open(http.host, { certificateDirs });
    for (const { host } of [https, http]) {
      const name = `${host}/${source}:latest`;
      await pull(service, name, { username: 'user', password: 'secret' });
      await service.remove(new Call({ name: 'remove', id: 't', log: silentLog }), name);
    }
  });

  it('reads certs.d again for each pull: another authority and client certificate count at once', async () => {
    const certificateDirs = [join(folder, 'renewed.d')];
    const start = (certs: ReturnType<typeof makeCertificates>, port?: number) =>
      startSecureRegistry(folder, {
        ...(port === undefined ? {} : { port }),
        http: { tls: { certificate: certs.server.cert, key: certs.server.key, clientcas: [certs.authority] } },
      });
    const install = (certs: ReturnType<typeof makeCertificates>, dir: string) => {
      mkdirSync(dir, { recursive: true });
      cpSync(certs.authority, join(dir, 'ca.crt'));
      cpSync(certs.client.cert, join(dir, 'client.cert'));
      cpSync(certs.client.key, join(dir, 'client.key'));
    };
    const [first, second] = [makeCertificates(folder), makeCertificates(folder)];
    const before = await start(first);
    const { host } = before;
    await using service = await open(host, { certificateDirs }, '');
    const name = `${host}/${source}:latest`;
    install(first, join(folder, 'renewed.d', host));
    await pull(service, name);
    await before[Symbol.asyncDispose]();
    await using _after = await start(second, Number(host.split(':')[1]));
    await assert.rejects(pull(service, name), 'with the old authority');
    install(second, join(folder, 'renewed.d', host));
    await pull(service, name);
    await service.remove(new Call({ name: 'remove', id: 't', log: silentLog }), name);
  });

  it('trusts the authority of the registry for the token server that it leads to, and does not show it the client certificate', async () => {
    const certs = makeCertificates(folder);
    const shown: boolean[] = [];
    const tls = { cert: readFileSync(certs.server.cert), key: readFileSync(certs.server.key) };
    const tokens = createServer({ ...tls, requestCert: true, rejectUnauthorized: false }, (request, response) => {
      const { socket } = request;
      shown.push(socket instanceof TLSSocket && Object.keys(socket.getPeerCertificate()).length > 0);
      response.end('{"token":"t"}');
    });
    await new Promise<void>((resolve) => tokens.listen(0, '127.0.0.1', resolve));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => tokens.closeAllConnections());
    stack.defer(() => void tokens.close());
    const { port } = tokens.address() as AddressInfo; // a TCP server has no other kind
    const bundle = certs.authority;
    const token = { realm: `https://127.0.0.1:${port}/token`, service: 's', issuer: 'i', rootcertbundle: bundle };
    await using tlsRegistry = await startSecureRegistry(folder, {
      auth: { token },
      http: { tls: { certificate: certs.server.cert, key: certs.server.key } },
    });
    const dir = join(folder, 'tokens.d', tlsRegistry.host);
    mkdirSync(dir, { recursive: true });
    cpSync(certs.authority, join(dir, 'ca.crt'));
    cpSync(certs.client.cert, join(dir, 'client.cert'));
    cpSync(certs.client.key, join(dir, 'client.key'));
    await using service = await open(tlsRegistry.host, { certificateDirs: [join(folder, 'tokens.d')] }, '');
    // The token is no good: that it was fetched is what counts.
    assert.match(await failure(pull(service, `${tlsRegistry.host}/${source}:latest`)), /401 unauthorized/);
    assert.ok(shown.length > 0 && !shown.includes(true));
  });

  it('verifies TLS with the authority in certs.d, and shows its client certificate', async () => {
    const certs = makeCertificates(folder);
    await using tls = await startSecureRegistry(folder, {
      http: { tls: { certificate: certs.server.cert, key: certs.server.key, clientcas: [certs.authority] } },
    });
    const dir = join(folder, 'certs.d', tls.host);
    mkdirSync(dir, { recursive: true });
    const name = `${tls.host}/${source}:latest`;
    await using stranger = await open(tls.host, {}, '');
    assert.match(
      await failure(pull(stranger, name)),
      /: (unable to get local issuer certificate|unable to verify the first certificate|self-signed certificate[^;]*); if its authority is to be trusted, it belongs into [^ ]*ca\.crt$/,
    );
    cpSync(certs.authority, join(dir, 'ca.crt'));
    await using known = await open(tls.host, { certificateDirs: [join(folder, 'certs.d')] }, '');
    await assert.rejects(pull(known, name), 'without a client certificate');
    cpSync(certs.client.cert, join(dir, 'client.cert'));
    await using incomplete = await open(tls.host, { certificateDirs: [join(folder, 'certs.d')] }, '');
    assert.match(await failure(pull(incomplete, name)), /missing key client\.key for client certificate client\.cert/);
    cpSync(certs.client.key, join(dir, 'client.key'));
    await pull(incomplete, name);
    await images.remove(new Call({ name: 'remove', id: 't', log: silentLog }), name);
  });
});
