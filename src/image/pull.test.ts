import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Call } from '../base/call.ts';
import { messageOf } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { defaultConfig } from '../config/config.ts';
import type { Config } from '../config/config.ts';
import { createImages } from './create-images.ts';
import type { ImageService } from './create-images.ts';
import { digestOf } from './digest.ts';
import { createFakeStore } from './fake-store.ts';
import type { FakeStore } from './fake-store.ts';
import { putImage, sendError, startFakeRegistry } from './fake-registry.ts';
import type { FakeRegistry } from './fake-registry.ts';
import type { Credentials } from './images.ts';
import { mediaTypes } from './manifest.ts';
import { hostPlatform } from './platform.ts';
import type { TransportLimits } from './registry/limits.ts';

const limits: TransportLimits = {
  connectMs: 1000,
  firstByteMs: 300,
  stallMs: 300,
  minBytesPerSecond: 0,
  windowMs: 1000,
  attempts: 4,
  backoffMs: 5,
  maxRetryAfterMs: 3000,
};

interface Bench extends AsyncDisposable {
  readonly registry: FakeRegistry;
  readonly store: FakeStore;
  readonly images: ImageService;
  pull(
    name: string,
    options?: { credentials?: Partial<Credentials>; namespace?: string; signal?: AbortSignal },
  ): Promise<string>;
}

let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'images-'));
});
after(() => rm(dir, { recursive: true }));

interface BenchOptions {
  readonly toml?: (host: string) => string;
  readonly image?: Partial<Config['image']>;
  readonly policy?: object;
  readonly authFiles?: readonly string[];
  readonly limits?: Partial<TransportLimits>;
}

let counter = 0;

async function openBench(options: BenchOptions = {}): Promise<Bench> {
  const registry = await startFakeRegistry();
  const store = createFakeStore();
  counter += 1;
  const conf = join(dir, `registries-${counter}.conf`);
  const policy = join(dir, `policy-${counter}.json`);
  await writeFile(
    conf,
    options.toml?.(registry.host) ?? `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`,
  );
  await writeFile(policy, JSON.stringify(options.policy ?? { default: [{ type: 'insecureAcceptAnything' }] }));
  const defaults = defaultConfig().image;
  const images = await createImages({
    store,
    log: silentLog,
    config: { image: { ...defaults, namespacedAuthDir: '', signaturePolicyDir: '', ...options.image } },
    places: {
      registries: { file: conf, dropInDirs: [], aliasFile: '/nonexistent' },
      authFiles: options.authFiles ?? [],
      policyFiles: [policy],
      certificateDirs: [],
      limits: { ...limits, ...options.limits },
    },
  });
  const blank: Credentials = { username: '', password: '', identityToken: '', registryToken: '', serverAddress: '' };
  return {
    registry,
    store,
    images,
    async pull(name, { credentials, namespace = '', signal } = {}) {
      const call = new Call({
        name: 'PullImage',
        id: 't',
        log: silentLog,
        ...(signal === undefined ? {} : { signal }),
      });
      const image = await images.pull(call, {
        reference: name,
        credentials: credentials === undefined ? undefined : { ...blank, ...credentials },
        namespace,
        cgroupParent: '',
      });
      return image.id;
    },
    async [Symbol.asyncDispose]() {
      images[Symbol.dispose]();
      await registry[Symbol.asyncDispose]();
    },
  };
}

/** Bytes that gzip cannot make smaller, the same ones each time. */
function noise(length: number): Buffer {
  let state = 1;
  return Buffer.from(Array.from({ length }, () => (state = (state * 48271) % 2147483647) >> 8));
}

async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return messageOf(error);
  }
  assert.fail('it succeeded');
}

const call = new Call({ name: 'test', id: 't', log: silentLog });
const basic = (user: string, password: string) => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

describe('pull', () => {
  it('stores config, manifest and layers, and lists the image', async () => {
    await using bench = await openBench();
    const { registry, store, images } = bench;
    const layers = [Buffer.from('one'), Buffer.from('two'), Buffer.from('three')];
    const image = putImage(registry, 'a/b', '1', { layers });
    assert.equal(await bench.pull(`${registry.host}/a/b:1`), image.id);
    const record = await store.images.find(image.id);
    assert.deepEqual(record?.bigDataNames, [`sha256:${image.id}`, `manifest-${image.manifestDigest}`, 'manifest']);
    assert.equal(record.metadata, '{}');
    assert.equal(record.createdNs, 1704164645000000000n);
    assert.deepEqual([...store.layerContents.values()].map(String).toSorted(), ['one', 'three', 'two']);
    const [listed] = await images.list();
    assert.deepEqual(listed?.repoTags, [`${registry.host}/a/b:1`]);
    assert.deepEqual(listed?.repoDigests, [`${registry.host}/a/b@${image.manifestDigest}`]);
    assert.deepEqual(listed?.config.cmd, ['sh']);
  });

  it('goes through nested lists to the entry for this machine and keeps the lists', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    const own = putImage(registry, 'a', 'own');
    const other = putImage(registry, 'a', 'other', { architecture: 's390x' });
    const entry = (image: { manifestDigest: string }, platform: object) => ({
      mediaType: mediaTypes.ociManifest,
      digest: image.manifestDigest,
      size: 1,
      platform,
    });
    const inner = registry.putManifest(
      'a',
      'inner',
      {
        schemaVersion: 2,
        mediaType: mediaTypes.ociIndex,
        manifests: [
          entry(other, { os: 'linux', architecture: 's390x' }),
          entry(own, { os: hostPlatform.os, architecture: hostPlatform.architecture }),
        ],
      },
      mediaTypes.ociIndex,
    );
    const outer = registry.putManifest(
      'a',
      'multi',
      {
        schemaVersion: 2,
        mediaType: mediaTypes.dockerList,
        manifests: [{ mediaType: mediaTypes.ociIndex, digest: inner, size: 1 }],
      },
      mediaTypes.dockerList,
    );
    assert.equal(await bench.pull(`${registry.host}/a:multi`), own.id);
    assert.deepEqual((await store.images.find(own.id))?.bigDataNames.slice(1, 3), [
      `manifest-${outer}`,
      `manifest-${inner}`,
    ]);
  });

  it('says which platforms there are when none fits', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const other = putImage(registry, 'a', 'other');
    registry.putManifest(
      'a',
      'multi',
      {
        schemaVersion: 2,
        manifests: [{ digest: other.manifestDigest, size: 1, platform: { os: 'linux', architecture: 's390x' } }],
      },
      mediaTypes.ociIndex,
    );
    assert.match(await failure(bench.pull(`${registry.host}/a:multi`)), /for linux\/\w+, there are: linux\/s390x/);
  });

  it('does not download a layer that is there', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    putImage(registry, 'a', '1', { layers: [Buffer.from('base'), Buffer.from('x')] });
    putImage(registry, 'b', '1', { layers: [Buffer.from('base'), Buffer.from('y')] });
    await bench.pull(`${registry.host}/a:1`);
    await bench.pull(`${registry.host}/b:1`);
    assert.equal(store.unpacked.length, 3);
  });

  it('joins ten pulls of one image, and pulls that share layers', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    putImage(registry, 'a', '1', { layers: [Buffer.from('base'), Buffer.from('x')] });
    putImage(registry, 'b', '1', { layers: [Buffer.from('base'), Buffer.from('y')] });
    const names = Array.from({ length: 10 }, () => `${registry.host}/a:1`);
    await Promise.all([...names, `${registry.host}/b:1`].map((name) => bench.pull(name)));
    assert.equal(store.unpacked.length, 3);
    assert.equal(
      registry.requests.filter(({ line }) => line.includes('/a/blobs/')).length +
        registry.requests.filter(({ line }) => line.includes('/b/blobs/')).length,
      5,
    );
  });

  it('goes on for the other waiters when one leaves', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    let release = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    let holding = false;
    registry.handle = (request, response) => {
      if (request.url?.includes('/blobs/') !== true || holding) return false;
      holding = true;
      void held.then(() => response.destroy());
      return true;
    };
    const controller = new AbortController();
    const leaving = bench.pull(`${registry.host}/a:1`, { signal: controller.signal });
    const staying = bench.pull(`${registry.host}/a:1`);
    await sleep(50);
    controller.abort();
    assert.match(await failure(leaving), /context canceled/);
    release();
    assert.equal(await staying, image.id);
  });

  it('takes a moved tag from the image that had it', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const first = putImage(registry, 'a', '1', { layers: [Buffer.from('x')] });
    await bench.pull(`${registry.host}/a:1`);
    const second = putImage(registry, 'a', '1', { layers: [Buffer.from('y')] });
    await bench.pull(`${registry.host}/a:1`);
    assert.equal((await images.find(`${registry.host}/a:1`))?.id, second.id);
    const old = await images.find(first.id);
    assert.deepEqual(old?.repoTags, []);
    assert.deepEqual(old?.repoDigests, [`${registry.host}/a@${first.manifestDigest}`]);
  });
});

describe('pull by digest', () => {
  it('names the image by digest, and drops the tag of a name that has both', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const image = putImage(registry, 'a', '1');
    await bench.pull(`${registry.host}/a:other@${image.manifestDigest}`);
    const found = await images.find(`${registry.host}/a@${image.manifestDigest}`);
    assert.deepEqual(found?.repoTags, []);
    assert.deepEqual(found?.repoDigests, [`${registry.host}/a@${image.manifestDigest}`]);
  });

  it('refuses a manifest with another digest', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    registry.manifests.set(`a ${image.manifestDigest}`, {
      data: Buffer.from('{"schemaVersion":2}'),
      contentType: mediaTypes.ociManifest,
    });
    assert.match(
      await failure(bench.pull(`${registry.host}/a@${image.manifestDigest}`)),
      /verify manifest .*digest is sha256:/,
    );
  });
});

describe('hostile registries', () => {
  it('refuses a layer with another digest, length or diffID, and stores no image', async () => {
    await using bench = await openBench();
    const { registry, store } = bench;
    const image = putImage(registry, 'a', '1', { layers: [Buffer.from('good')] });
    const [digest = ''] = image.layerDigests;
    const good = registry.blobs.get(digest) ?? Buffer.alloc(0);
    registry.blobs.set(digest, Buffer.from(good).fill(0x55, good.length - 1));
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /blob has digest/);
    registry.blobs.set(digest, Buffer.concat([good, Buffer.from('x')]));
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /longer than the \d+ bytes its manifest names/);
    registry.blobs.set(digest, good.subarray(0, good.length - 2));
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /ended after \d+ of \d+ bytes/);
    assert.equal(await store.images.find(image.id), undefined);
  });

  it('CVE-2020-1702: reads no more than 4 MiB of a manifest, announced or not', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    let sent = 0;
    registry.handle = (request, response) => {
      if (request.url?.includes('/manifests/') !== true) return false;
      response.writeHead(200, { 'Content-Type': mediaTypes.ociManifest });
      const write = () => {
        while (!response.destroyed && sent < 100e6) {
          sent += 65536;
          if (!response.write(Buffer.alloc(65536, 32))) {
            response.once('drain', write);
            return;
          }
        }
      };
      write();
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /more than 4194304 bytes/);
    assert.ok(sent < 40e6, `${sent} bytes were taken`);
  });

  it('CVE-2021-41190: refuses a manifest that could be read in two ways', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const { manifest } = putImage(registry, 'a', '1');
    registry.putManifest('a', 'both', { ...manifest, manifests: [] });
    registry.putManifest('a', 'case', { ...manifest, Manifests: [] });
    registry.putManifest('a', 'type', { ...manifest, mediaType: mediaTypes.ociIndex });
    assert.match(await failure(bench.pull(`${registry.host}/a:both`)), /ambiguous, it has the key "manifests"/);
    assert.match(await failure(bench.pull(`${registry.host}/a:case`)), /ambiguous, it has the key "Manifests"/);
    assert.match(await failure(bench.pull(`${registry.host}/a:type`)), /media type is .*index.* in the document, but/);
    registry.manifests.set('a twice', {
      data: Buffer.from('{"schemaVersion":2,"config":{},"Config":{}}'),
      contentType: mediaTypes.ociManifest,
    });
    assert.match(await failure(bench.pull(`${registry.host}/a:twice`)), /key "Config" stands twice/);
  });

  it('CVE-2024-3727: refuses digests that are no digests', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const { manifest } = putImage(registry, 'a', '1');
    registry.putManifest('a', 'x', {
      ...manifest,
      config: { mediaType: mediaTypes.ociConfig, digest: 'sha256:../../../../etc/passwd', size: 10 },
    });
    assert.match(await failure(bench.pull(`${registry.host}/a:x`)), /invalid checksum digest format/);
    assert.ok(registry.requests.every(({ line }) => !line.includes('passwd')));
  });

  it('CVE-2020-15157: never follows the URLs of a foreign layer', async () => {
    await using bench = await openBench();
    await using evil = await startFakeRegistry();
    const { registry } = bench;
    const { manifest } = putImage(registry, 'a', '1');
    const layers = manifest.layers.map((layer) => ({
      ...layer,
      digest: digestOf(Buffer.from('elsewhere')),
      mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      urls: [`http://${evil.host}/layer`],
    }));
    registry.putManifest(
      'a',
      'foreign',
      {
        ...manifest,
        mediaType: mediaTypes.dockerManifest,
        config: { ...manifest.config, mediaType: mediaTypes.dockerConfig },
        layers,
      },
      mediaTypes.dockerManifest,
    );
    assert.match(
      await failure(bench.pull(`${registry.host}/a:foreign`, { credentials: { username: 'u', password: 'p' } })),
      /BLOB_UNKNOWN/,
    );
    assert.deepEqual(evil.requests, []);
  });

  it('ends redirect loops', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    registry.handle = (request, response) => {
      if (request.url === '/v2/') return false;
      response.writeHead(307, { Location: `${request.url}x` }).end();
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /more than 5 redirects/);
    assert.ok(registry.requests.length < 10);
  });

  it('follows a redirect to another host without the credentials', async () => {
    await using bench = await openBench();
    await using other = await startFakeRegistry();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    putImage(other, 'a', '1');
    registry.handle = (request, response) => {
      if (request.headers.authorization === undefined) {
        sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
        return true;
      }
      if (request.url?.includes('/blobs/') !== true) return false;
      response.writeHead(302, { Location: `http://other:secret@${other.host}${request.url}` }).end();
      return true;
    };
    assert.equal(await bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } }), image.id);
    assert.ok(other.requests.length > 0);
    assert.ok(other.requests.every(({ authorization }) => authorization === undefined));
  });

  it('does not answer the authentication challenge of a redirect target', async () => {
    await using bench = await openBench();
    await using other = await startFakeRegistry();
    const { registry } = bench;
    putImage(registry, 'a', '1');
    other.handle = (_, response) => {
      sendError(
        response.setHeader('WWW-Authenticate', 'Basic realm="x"'),
        401,
        'UNAUTHORIZED',
        'give me your password',
      );
      return true;
    };
    registry.handle = (request, response) => {
      if (request.url?.includes('/blobs/') !== true) return false;
      response.writeHead(302, { Location: `http://${other.host}${request.url}` }).end();
      return true;
    };
    assert.match(
      await failure(bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } })),
      /401 unauthorized: UNAUTHORIZED: give me your password/,
    );
    assert.ok(other.requests.every(({ authorization }) => authorization === undefined));
  });

  it('resumes a broken blob by range', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const content = noise(200_000);
    const image = putImage(registry, 'a', '1', { layers: [content] });
    const [digest = ''] = image.layerDigests;
    const blob = registry.blobs.get(digest) ?? Buffer.alloc(0);
    let breaks = 0;
    registry.handle = (request, response) => {
      if (request.url?.endsWith(digest) !== true || breaks === 2) return false;
      breaks += 1;
      const start = Number(/bytes=(\d+)/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const status = start > 0 ? 206 : 200;
      const range = start > 0 ? { 'Content-Range': `bytes ${start}-${blob.length - 1}/${blob.length}` } : {};
      response.writeHead(status, { 'Content-Length': blob.length - start, ...range });
      response.write(blob.subarray(start, start + Math.floor(blob.length / 3)), () =>
        setTimeout(() => response.destroy(), 20),
      );
      return true;
    };
    assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    const ranges = registry.requests.filter(({ line }) => line.includes(digest)).map(({ range }) => range);
    assert.equal(ranges.length, 3);
    assert.match(ranges[2] ?? '', /^bytes=\d+-$/);
  });

  it('starts over when a server ignores the range, and refuses another range than asked for', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1', { layers: [Buffer.from('x'.repeat(1000))] });
    const [digest = ''] = image.layerDigests;
    const blob = registry.blobs.get(digest) ?? Buffer.alloc(0);
    let answer = 0;
    registry.handle = (request, response) => {
      if (request.url?.endsWith(digest) !== true) return false;
      answer += 1;
      if (answer === 1)
        response
          .writeHead(200, { 'Content-Length': blob.length })
          .write(blob.subarray(0, 10), () => setTimeout(() => response.destroy(), 20));
      else if (answer === 2)
        response.writeHead(206, { 'Content-Range': `bytes 0-9/${blob.length}` }).end(blob.subarray(0, 10));
      else response.writeHead(200, { 'Content-Length': blob.length }).end(blob);
      return true;
    };
    assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    assert.equal(answer, 3);
  });

  it('gives up on a registry that hangs before or inside its answer, and says so', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    putImage(registry, 'a', '1');
    registry.handle = (request) => request.url?.includes('/manifests/') === true;
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /no answer from 127\.0\.0\.1:\d+ within 0\.3 s/);
    registry.handle = (request, response) => {
      if (request.url?.includes('/blobs/') !== true) return false;
      response.writeHead(200, { 'Content-Length': 100 }).write('x');
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /no data for 0\.3 s/);
  });

  it('gives up on one byte a second', async () => {
    await using bench = await openBench({ limits: { minBytesPerSecond: 1000, windowMs: 200 } });
    const { registry } = bench;
    putImage(registry, 'a', '1');
    registry.handle = (request, response) => {
      if (request.url?.includes('/manifests/') !== true) return false;
      response.writeHead(200, { 'Content-Type': mediaTypes.ociManifest });
      const timer = setInterval(() => response.write(' '), 20);
      response.on('close', () => clearInterval(timer));
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /only \d+ bytes a second over 0\.2 s/);
  });

  it('refuses image configs that do not fit, with a clear text', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    putImage(registry, 'a', 'env', { config: { Env: ['A=\0'] } });
    putImage(registry, 'a', 'user', { config: { User: 5 } });
    putImage(registry, 'a', 'proto', {
      config: { Labels: JSON.parse('{"__proto__": "x", "constructor": "y"}') as object },
    });
    const { manifest } = putImage(registry, 'a', '1');
    registry.putManifest('a', 'layers', { ...manifest, layers: [] });
    assert.match(await failure(bench.pull(`${registry.host}/a:env`)), /config\.Env: contains a NUL character/);
    assert.match(await failure(bench.pull(`${registry.host}/a:user`)), /config\.User: expected a string/);
    assert.match(await failure(bench.pull(`${registry.host}/a:layers`)), /names 1 layers, but the manifest has 0/);
    await bench.pull(`${registry.host}/a:proto`);
    const labels = (await bench.images.find(`${registry.host}/a:proto`))?.config.labels;
    assert.deepEqual(
      [...(labels ?? [])],
      [
        ['__proto__', 'x'],
        ['constructor', 'y'],
      ],
    );
    assert.equal(({} as { x?: string }).x, undefined);
  });

  it('refuses deeply nested JSON without a stack overflow', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    registry.manifests.set('a deep', {
      data: Buffer.from(`{"schemaVersion":2,"x":${'['.repeat(1e6)}`),
      contentType: mediaTypes.ociManifest,
    });
    assert.match(await failure(bench.pull(`${registry.host}/a:deep`)), /nested deeper than 64 levels/);
  });

  it('keeps control characters of a registry out of its error', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    registry.handle = (request, response) => {
      if (request.url === '/v2/') return false;
      sendError(response, 403, 'DENIED', 'no\n\u001b[31mlevel=info msg=fake');
      return true;
    };
    assert.match(
      await failure(bench.pull(`${registry.host}/a:1`)),
      /403 forbidden: DENIED: no \[31mlevel=info msg=fake$/,
    );
  });
});

describe('busy registries', () => {
  for (const [shape, headers] of [
    ['seconds', { 'Retry-After': '1' }],
    ['a date', { 'Retry-After': 'date' }],
    ['nothing', {}],
  ] as const) {
    it(`waits after 429 with ${shape}`, async () => {
      await using bench = await openBench();
      const { registry } = bench;
      const image = putImage(registry, 'a', '1');
      let refusals = 0;
      registry.handle = (request, response) => {
        if (request.url?.includes('/manifests/') !== true || refusals === 1) return false;
        refusals += 1;
        const values: Record<string, string> =
          'Retry-After' in headers
            ? { 'Retry-After': headers['Retry-After'] === 'date' ? new Date(Date.now() + 900).toUTCString() : '1' }
            : {};
        sendError(response, shape === 'nothing' ? 503 : 429, 'TOOMANYREQUESTS', 'slow down', values);
        return true;
      };
      assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    });
  }

  it('does not wait longer than its budget', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    registry.handle = (request, response) => {
      if (request.url === '/v2/') return false;
      sendError(response, 429, 'TOOMANYREQUESTS', 'come back tomorrow', { 'Retry-After': '86400' });
      return true;
    };
    assert.match(
      await failure(bench.pull(`${registry.host}/a:1`)),
      /asks to wait 86400 s: 429 too many requests: TOOMANYREQUESTS: come back tomorrow/,
    );
  });
});

describe('credentials', () => {
  const tokenRegistry = (registry: FakeRegistry, accept: (authorization: string | undefined) => boolean) => {
    const state = { tokens: 0, scopes: [] as (string | null)[] };
    registry.handle = (request, response) => {
      const url = new URL(request.url ?? '/', `http://${registry.host}`);
      if (url.pathname === '/token') {
        state.scopes.push(url.searchParams.get('scope'));
        if (!accept(request.headers.authorization)) {
          sendError(response, 401, 'UNAUTHORIZED', 'wrong password');
          return true;
        }
        state.tokens += 1;
        response.end(JSON.stringify({ token: `token-${state.tokens}`, expires_in: 300 }));
        return true;
      }
      if (request.headers.authorization === `Bearer token-${state.tokens}` && state.tokens > 0) return false;
      sendError(
        response.setHeader(
          'WWW-Authenticate',
          `Bearer realm="http://${registry.host}/token",service="s",scope="repository:a:pull"`,
        ),
        401,
        'UNAUTHORIZED',
        'authentication required',
      );
      return true;
    };
    return state;
  };

  it('fetches one token for all requests of a repository, and a new one when it is revoked', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    putImage(registry, 'a', '1', { layers: [Buffer.from('x'), Buffer.from('y')] });
    const state = tokenRegistry(registry, (authorization) => authorization === basic('u', 'p'));
    await bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } });
    assert.deepEqual(state.scopes, ['repository:a:pull']);
    state.tokens += 1;
    await bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } });
    assert.equal(state.scopes.length, 2);
  });

  it('says which source was used, and never the secret', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    putImage(registry, 'a', '1');
    tokenRegistry(registry, () => false);
    const text = await failure(
      bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'hunter2' } }),
    );
    assert.match(
      text,
      /^unable to pull image: pull ".*\/a:1": read manifest 1: http:\/\/127\.0\.0\.1:\d+ \(credentials of the request\): token server http:.*: 401 unauthorized: UNAUTHORIZED: wrong password$/,
    );
    assert.ok(!text.includes('hunter2'));
  });

  it('takes them from an auth file by the longest entry and names it', async () => {
    const authFile = join(dir, 'auth.json');
    await using bench = await openBench({ image: { globalAuthFile: authFile } });
    const { registry } = bench;
    const auth = (user: string) => ({ auth: Buffer.from(`${user}:pw`).toString('base64') });
    await writeFile(
      authFile,
      JSON.stringify({
        auths: {
          [registry.host]: auth('all'),
          [`${registry.host}/team`]: auth('team'),
          [`http://${registry.host}/v2/`]: auth('old'),
        },
      }),
    );
    putImage(registry, 'team/app', '1');
    const seen = new Set<string | undefined>();
    registry.handle = (request, response) => {
      if (request.url === '/v2/') return false;
      if (request.headers.authorization === undefined)
        sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
      else seen.add(request.headers.authorization);
      return request.headers.authorization === undefined;
    };
    await bench.pull(`${registry.host}/team/app:1`);
    assert.deepEqual([...seen], [basic('team', 'pw')]);
    registry.handle = (_, response) => {
      sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
      return true;
    };
    assert.match(
      await failure(bench.pull(`${registry.host}/team/app:1`)),
      /\(auth file ".*auth\.json", entry "127\.0\.0\.1:\d+\/team"\): 401/,
    );
  });

  it('does not send those of the request to a mirror', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror.host}"\ninsecure = true`,
    });
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    const demand = (target: FakeRegistry) => {
      target.handle = (request, response) => {
        if (request.url === '/v2/' || request.headers.authorization !== undefined) return false;
        sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
        return true;
      };
    };
    demand(mirror);
    demand(registry);
    assert.equal(await bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } }), image.id);
    assert.ok(mirror.requests.length > 0);
    assert.ok(mirror.requests.every(({ authorization }) => authorization === undefined));
  });

  it('uses a file for the namespace once', async () => {
    const folder = await mkdtemp(join(dir, 'ns-'));
    await using bench = await openBench({ image: { namespacedAuthDir: folder } });
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    const { createHash } = await import('node:crypto');
    const name = `prod-${createHash('sha256').update(`${registry.host}/a`).digest('hex')}.json`;
    await writeFile(
      join(folder, name),
      JSON.stringify({ auths: { [registry.host]: { auth: Buffer.from('n:s').toString('base64') } } }),
    );
    registry.handle = (request, response) => {
      if (request.url === '/v2/' || request.headers.authorization === basic('n', 's')) return false;
      sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
      return true;
    };
    assert.equal(await bench.pull(`${registry.host}/a:1`, { namespace: 'prod' }), image.id);
    assert.deepEqual(await readdir(folder), ['in-use']);
    assert.deepEqual(await readdir(join(folder, 'in-use')), []);
    assert.match(await failure(bench.pull(`${registry.host}/a:1`, { namespace: 'prod' })), /401/);
  });

  it('CVE-2019-10214: refuses a token server on plain HTTP for a registry that is not insecure', async () => {
    const { Authorizer } = await import('./registry/authorizer.ts');
    const { Endpoints } = await import('./registry/endpoints.ts');
    using endpoints = new Endpoints({ limits, certificateDirs: [], log: silentLog });
    const authorizer = new Authorizer(endpoints.get('r.io', false), 'a', {
      username: 'u',
      password: 'p',
      identityToken: '',
      registryToken: '',
      source: 's',
    });
    const challenge = { scheme: 'bearer', parameters: new Map([['realm', 'http://127.0.0.1:1/token']]) };
    assert.match(
      await failure(authorizer.answer([challenge], undefined, new AbortController().signal)),
      /only https is allowed/,
    );
  });
});

describe('mirrors', () => {
  it('falls back, and lists every endpoint with its answer when all fail', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror.host}/m"\ninsecure = true`,
    });
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    assert.ok(mirror.requests.some(({ line }) => line === 'GET /v2/m/a/manifests/1'));
    const text = await failure(bench.pull(`${registry.host}/a:2`));
    assert.match(
      text,
      /http:\/\/\S+ \(mirror, no credentials\): 404 not found: MANIFEST_UNKNOWN: manifest unknown; http:\/\/\S+ \(no credentials\): 404/,
    );
  });

  it('remembers a dead mirror across pulls', async () => {
    const dead = await startFakeRegistry();
    await dead[Symbol.asyncDispose]();
    await using bench = await openBench({
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${dead.host}"\ninsecure = true`,
    });
    const { registry } = bench;
    putImage(registry, 'a', '1');
    await bench.pull(`${registry.host}/a:1`);
    const text = await failure(bench.pull(`${registry.host}/a:2`));
    assert.match(text, /\(mirror, not asked\): not tried again for \d+ s after: connect ECONNREFUSED/);
  });

  it('reads the rest of a blob from the next place when a mirror dies inside it', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror.host}"\ninsecure = true`,
    });
    const { registry } = bench;
    const content = [noise(100_000)];
    const image = putImage(registry, 'a', '1', { layers: content });
    putImage(mirror, 'a', '1', { layers: content });
    const [digest = ''] = image.layerDigests;
    mirror.handle = (request, response) => {
      if (request.url?.endsWith(digest) !== true) return false;
      if (request.headers.range !== undefined) sendError(response, 404, 'BLOB_UNKNOWN', 'gone');
      else
        response
          .writeHead(200)
          .write(mirror.blobs.get(digest)?.subarray(0, 1000) ?? '', () => setTimeout(() => response.destroy(), 20));
      return true;
    };
    assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    assert.deepEqual(
      registry.requests.filter(({ line }) => line.includes(digest)).map(({ range }) => range),
      ['bytes=1000-'],
    );
  });
});

describe('error texts', () => {
  it('starts with RegistryUnavailable when nobody listens', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    await registry[Symbol.asyncDispose]();
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /^RegistryUnavailable: .*connect ECONNREFUSED/);
  });

  it('starts with SignatureValidationFailed when the policy refuses, and names the rule', async () => {
    await using bench = await openBench({
      policy: {
        default: [{ type: 'insecureAcceptAnything' }],
        transports: {
          docker: {
            '127.0.0.1': [{ type: 'reject' }],
            'r.io/x': [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: '/k' }],
          },
        },
      },
    });
    const { registry } = bench;
    putImage(registry, 'a', '1');
    await writeFile(
      join(dir, `policy-${counter}.json`),
      JSON.stringify({
        default: [{ type: 'insecureAcceptAnything' }],
        transports: { docker: { [registry.host]: [{ type: 'reject' }] } },
      }),
    );
    assert.match(
      await failure(bench.pull(`${registry.host}/a:1`)),
      /^SignatureValidationFailed: .*Source image rejected: Running image docker:\/\/\S+ is rejected by policy\..*scope "127\.0\.0\.1:\d+"/,
    );
  });

  it('needs TLS when the registry is not insecure, also on loopback', async () => {
    await using bench = await openBench({ toml: () => '' });
    const { registry } = bench;
    putImage(registry, 'a', '1');
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /^unable to pull image: .*https:\/\/127\.0\.0\.1/);
    assert.deepEqual(registry.requests, []);
  });

  it('ends a pull without progress after pull_progress_timeout', async () => {
    await using bench = await openBench({
      image: { pullProgressTimeoutMs: 100 },
      limits: { firstByteMs: 5000, stallMs: 5000 },
    });
    const { registry } = bench;
    putImage(registry, 'a', '1');
    registry.handle = (request) => request.url?.includes('/manifests/') === true;
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /context canceled: no progress for 0\.1 s/);
  });
});

describe('find and remove', () => {
  it('finds by id, prefix, name and digest; unknown is undefined; bad names are errors', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const image = putImage(registry, 'a', '1');
    await bench.pull(`${registry.host}/a:1`);
    for (const name of [
      image.id,
      image.id.slice(0, 3),
      `sha256:${image.id}`,
      `${registry.host}/a:1`,
      `${registry.host}/a@${image.manifestDigest}`,
      `${registry.host}/a:x@${image.manifestDigest}`,
    ]) {
      assert.equal((await images.find(name))?.id, image.id, name);
    }
    for (const name of [
      'r.io/none',
      `${registry.host}/a:2`,
      `${registry.host}/b@${image.manifestDigest}`,
      'f'.repeat(64),
    ])
      assert.equal(await images.find(name), undefined, name);
    await assert.rejects(images.find('Not A Name'), { kind: 'invalid' });
    await assert.rejects(images.find(''), { message: 'no image specified' });
  });

  it('untags, and deletes with the last name or by id', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const layers = [Buffer.from('same')];
    const image = putImage(registry, 'a', '1', { layers });
    putImage(registry, 'a', '2', { layers });
    putImage(registry, 'b', '1', { layers });
    const names = ['a:1', 'a:2', 'b:1'].map((name) => `${registry.host}/${name}`);
    for (const name of names) await bench.pull(name);
    assert.deepEqual((await images.find(image.id))?.repoTags, names);
    assert.equal((await images.find(image.id))?.repoDigests.length, 2);
    await images.remove(call, names[0] ?? '');
    assert.deepEqual((await images.find(image.id))?.repoTags, names.slice(1));
    await images.remove(call, names[0] ?? '');
    await images.remove(call, names[1] ?? '');
    await images.remove(call, names[2] ?? '');
    assert.deepEqual(await images.list(), []);
    for (const name of names) await bench.pull(name);
    await images.remove(call, image.id);
    assert.deepEqual(await images.list(), []);
  });

  it('pins the pause image and what is configured, also after a reload', async () => {
    await using bench = await openBench({ image: { pinnedImages: ['*PINNED*'] } });
    const { registry, images } = bench;
    putImage(registry, 'a/pinned', '1', { layers: [Buffer.from('1')] });
    putImage(registry, 'a/other', '1', { layers: [Buffer.from('2')] });
    await bench.pull(`${registry.host}/a/pinned:1`);
    await bench.pull(`${registry.host}/a/other:1`);
    const pinned = async () => (await images.list()).filter((image) => image.pinned).flatMap((image) => image.repoTags);
    assert.deepEqual(await pinned(), [`${registry.host}/a/pinned:1`]);
    await images.reload({ image: { ...defaultConfig().image, pauseImage: `${registry.host}/a/other:1` } });
    assert.deepEqual(await pinned(), [`${registry.host}/a/other:1`]);
  });

  it('lists 500 images in less than a millisecond', async () => {
    await using bench = await openBench();
    const { store, images } = bench;
    for (let index = 0; index < 500; index += 1) {
      const config = Buffer.from(
        JSON.stringify({ architecture: 'amd64', os: 'linux', index, config: {}, rootfs: { diff_ids: [] } }),
      );
      const digest = digestOf(config);
      await store.images.put({
        id: digest.slice(7),
        digest,
        addNames: [`r.io/i${index}:1`],
        topLayer: undefined,
        createdNs: 1n,
        metadata: '{}',
        bigData: [{ key: digest, data: config, digest }],
      });
    }
    assert.equal((await images.list()).length, 500);
    const start = performance.now();
    for (let round = 0; round < 100; round += 1) await images.list();
    const perList = (performance.now() - start) / 100;
    assert.ok(perList < 1, `${perList} ms`);
  });
});
