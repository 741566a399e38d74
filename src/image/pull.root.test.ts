import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildImages } from '../../test/fixtures/build.ts';
import { run } from '../../test/fixtures/process.ts';
import { freePort, startRegistry } from '../../test/fixtures/registry.ts';
import type { Registry } from '../../test/fixtures/registry.ts';
import { Call } from '../base/call.ts';
import { messageOf } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { defaultConfig } from '../config/config.ts';
import { openStore } from '../storage/open-store.ts';
import type { Store } from '../storage/store.ts';
import { createImages } from './create-images.ts';
import type { ImageService, ImagePlaces } from './create-images.ts';
import { digestOf } from './digest.ts';
import type { Credentials } from './images.ts';

/** Real docker-registry, skopeo and podman; everything lies in one temporary folder. */
const folder = mkdtempSync(join(tmpdir(), 'images-root-'));
/** podman refuses long names here. */
const runRoot = mkdtempSync('/run/images-');
const roots = { root: join(folder, 'root'), runroot: runRoot };
const podmanStore = ['--root', roots.root, '--runroot', roots.runroot, '--storage-driver', 'overlay'];
const storageName = `containers-storage:[overlay@${roots.root}+${roots.runroot}]`;
const source = 'docker.io/library/busybox';

let registry: Registry;
let store: Store;
let images: ImageService;

function openImages(
  host: string,
  places: Partial<ImagePlaces> = {},
  toml = `[[registry]]\nlocation = "${host}"\ninsecure = true\n`,
): Promise<ImageService> {
  const id = String(Math.random()).slice(2);
  const file = join(folder, `registries-${id}.conf`);
  const policy = join(folder, 'policy.json');
  writeFileSync(file, toml);
  writeFileSync(policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
  return createImages({
    store,
    log: silentLog,
    config: { image: { ...defaultConfig().image, namespacedAuthDir: '', signaturePolicyDir: '' } },
    places: {
      registries: { file, dropInDirs: [], aliasFile: '/nonexistent' },
      policyFiles: [policy],
      authFiles: [],
      certificateDirs: [],
      ...places,
    },
  });
}

async function pull(service: ImageService, reference: string, credentials?: Partial<Credentials>): Promise<string> {
  const blank: Credentials = { username: '', password: '', identityToken: '', registryToken: '', serverAddress: '' };
  const call = new Call({ name: 'PullImage', id: 't', log: silentLog });
  const image = await service.pull(call, {
    reference,
    namespace: '',
    cgroupParent: '',
    credentials: credentials && { ...blank, ...credentials },
  });
  return image.id;
}

async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return messageOf(error);
  }
  assert.fail('it succeeded');
}

function podman(...args: string[]): string {
  return run('podman', [...podmanStore, '--cgroup-manager', 'cgroupfs', '--log-level', 'error', ...args]);
}

const runFlags = [
  '--rm',
  '--network',
  'none',
  '--cgroups',
  'disabled',
  '--ulimit',
  'nofile=1024:1024',
  '--ulimit',
  'nproc=1024:1024',
  '--pull',
  'never',
];

before(async () => {
  const small = await buildImages('small');
  cpSync(small.storage, join(folder, 'registry'), { recursive: true });
  registry = await startRegistry({ storage: join(folder, 'registry') });
  store = await openStore({
    graphRoot: roots.root,
    runRoot: roots.runroot,
    imageStore: '',
    driver: 'overlay',
    options: ['overlay.skip_mount_home=true'],
    log: silentLog,
  });
  images = await openImages(registry.address);
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
      assert.equal(podman('run', ...runFlags, name, 'echo', 'hello').trim(), 'hello');
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
    await using old = await startSecureRegistry({ compatibility: { schema1: { enabled: true } } });
    await using service = await openImages(old.host);
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
    assert.equal(podman('run', ...runFlags, name, 'echo', 'hello').trim(), 'hello');
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
    const htpasswd = join(folder, 'htpasswd');
    // bcrypt of libxcrypt, through the Perl that every Debian has.
    const hash = run('perl', ['-e', "print crypt('secret', '$2b$05$abcdefghijklmnopqrstuu')"]);
    writeFileSync(htpasswd, `user:${hash}\n`);
    await using closed = await startSecureRegistry({ auth: { htpasswd: { realm: 'test', path: htpasswd } } });
    const authFile = join(folder, 'auth.json');
    run('skopeo', ['login', '--tls-verify=false', '--authfile', authFile, '-u', 'user', '-p', 'secret', closed.host]);
    await using service = await openImages(closed.host, { authFiles: [authFile] });
    await using stranger = await openImages(closed.host);
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

  it('verifies TLS with the authority in certs.d, and shows its client certificate', async () => {
    const certs = makeCertificates();
    await using tls = await startSecureRegistry({
      http: { tls: { certificate: certs.server.cert, key: certs.server.key, clientcas: [certs.authority] } },
    });
    const dir = join(folder, 'certs.d', tls.host);
    mkdirSync(dir, { recursive: true });
    const name = `${tls.host}/${source}:latest`;
    await using stranger = await openImages(tls.host, {}, '');
    assert.match(
      await failure(pull(stranger, name)),
      /unable to get local issuer certificate|unable to verify the first certificate|self-signed certificate/,
    );
    cpSync(certs.authority, join(dir, 'ca.crt'));
    await using known = await openImages(tls.host, { certificateDirs: [join(folder, 'certs.d')] }, '');
    await assert.rejects(pull(known, name), 'without a client certificate');
    cpSync(certs.client.cert, join(dir, 'client.cert'));
    await using incomplete = await openImages(tls.host, { certificateDirs: [join(folder, 'certs.d')] }, '');
    assert.match(await failure(pull(incomplete, name)), /missing key client\.key for client certificate client\.cert/);
    cpSync(certs.client.key, join(dir, 'client.key'));
    await pull(incomplete, name);
    await images.remove(new Call({ name: 'remove', id: 't', log: silentLog }), name);
  });
});

describe('proxies', () => {
  it('asks through HTTP_PROXY, but not for hosts in NO_PROXY', async () => {
    const seen: string[] = [];
    const proxy = createServer((request, response) => {
      seen.push(request.url ?? '');
      const url = new URL(request.url ?? '');
      const upstream = connect(Number(url.port), url.hostname, () => {
        upstream.write(
          `GET ${url.pathname} HTTP/1.1\r\nHost: ${url.host}\r\nAccept: ${request.headers.accept ?? '*/*'}\r\nConnection: close\r\n\r\n`,
        );
        upstream.pipe(response.socket ?? upstream);
      });
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const script = join(folder, 'proxied.ts');
    const endpoints = join(import.meta.dirname, 'registry/endpoints.ts');
    writeFileSync(
      script,
      `import { Endpoints } from '${endpoints}';
       import { defaultLimits } from '${join(import.meta.dirname, 'registry/limits.ts')}';
       import { silentLog } from '${join(import.meta.dirname, '../base/log.ts')}';
       using endpoints = new Endpoints({ limits: defaultLimits, certificateDirs: [], log: silentLog });
       const response = await endpoints.get('${registry.address}', true).send({ target: '/v2/', signal: AbortSignal.timeout(5000) });
       console.log(response.status);
       response.discard();`,
    );
    const { port } = proxy.address() as AddressInfo; // a TCP server has no other kind
    const ask = (env: Record<string, string>) =>
      runAsync(process.execPath, [script], { PATH: process.env['PATH'] ?? '', ...env });
    assert.equal((await ask({ HTTP_PROXY: `http://127.0.0.1:${port}` })).trim(), '200');
    assert.ok(seen.length > 0, 'the proxy was not asked');
    seen.length = 0;
    assert.equal((await ask({ HTTP_PROXY: `http://127.0.0.1:${port}`, NO_PROXY: '127.0.0.1' })).trim(), '200');
    assert.deepEqual(seen, []);
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
  });
});

interface SecureRegistry extends AsyncDisposable {
  readonly host: string;
}

/** docker-registry on the same content, with authentication or TLS. */
async function startSecureRegistry(settings: {
  readonly auth?: object;
  readonly compatibility?: object;
  readonly http?: object;
}): Promise<SecureRegistry> {
  const host = `127.0.0.1:${await freePort()}`;
  const file = join(folder, `${host}.yml`);
  const storage = { filesystem: { rootdirectory: join(folder, 'registry') } };
  writeFileSync(
    file,
    JSON.stringify({
      version: 0.1,
      log: { level: 'error' },
      storage,
      ...settings,
      http: { addr: host, ...settings.http },
    }),
  );
  const child = spawn('docker-registry', ['serve', file], { stdio: 'ignore' });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  for (let tries = 0; tries < 200 && !(await accepts(host)); tries += 1) await sleep(25);
  return {
    host,
    async [Symbol.asyncDispose]() {
      child.kill();
      await gone;
    },
  };
}

function accepts(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(Number(host.split(':')[1]), '127.0.0.1');
    const answer = (isOpen: boolean) => {
      socket.destroy();
      resolve(isOpen);
    };
    socket.once('connect', () => answer(true)).once('error', () => answer(false));
  });
}

interface Pair {
  readonly cert: string;
  readonly key: string;
}

function makeCertificates(): { readonly authority: string; readonly server: Pair; readonly client: Pair } {
  const dir = mkdtempSync(join(folder, 'tls-'));
  const file = (name: string) => join(dir, name);
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  run('openssl', [
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    file('ca.key'),
    '-out',
    file('ca.crt'),
    '-subj',
    '/CN=test authority',
    '-days',
    '2',
  ]);
  const sign = (name: string, extensions: string): Pair => {
    writeFileSync(file(`${name}.ext`), extensions);
    run('openssl', [
      'req',
      ...newKey,
      '-keyout',
      file(`${name}.key`),
      '-out',
      file(`${name}.csr`),
      '-subj',
      `/CN=${name}`,
    ]);
    run('openssl', [
      'x509',
      '-req',
      '-in',
      file(`${name}.csr`),
      '-CA',
      file('ca.crt'),
      '-CAkey',
      file('ca.key'),
      '-CAcreateserial',
      '-out',
      file(`${name}.crt`),
      '-days',
      '2',
      '-extfile',
      file(`${name}.ext`),
    ]);
    return { cert: file(`${name}.crt`), key: file(`${name}.key`) };
  };
  return {
    authority: file('ca.crt'),
    server: sign('server', 'subjectAltName=IP:127.0.0.1'),
    client: sign('client', 'extendedKeyUsage=clientAuth'),
  };
}

/** Like `run`, but this process goes on serving meanwhile. */
async function runAsync(program: string, args: readonly string[], env: Record<string, string>): Promise<string> {
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await new Promise((resolve) => child.once('close', resolve));
  return output;
}
