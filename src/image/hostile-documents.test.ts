import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf } from './digest.ts';
import type { ImageConfig } from './images.ts';
import { mediaTypes } from './media-types.ts';
import { failure, openBench } from './testing/bench.ts';
import type { Bench } from './testing/bench.ts';
import { putImage } from './testing/fake-registry.ts';
import type { FakeImage, FakeRegistry } from './testing/fake-registry.ts';

/** Manifests and configs made to harm, one row each. A good image is put first; nothing may be stored of a refused one. */
interface ManifestRow {
  readonly what: string;
  readonly document: (good: FakeImage['manifest'], registry: FakeRegistry) => object | string | Buffer;
  readonly contentType?: string;
  readonly refused: RegExp;
}

const { ociManifest, ociIndex, ociConfig, dockerManifest, dockerList } = mediaTypes;
const descriptor = (mediaType: string, more: object = {}) => ({
  mediaType,
  digest: `sha256:${'0'.repeat(64)}`,
  size: 10,
  ...more,
});

const manifests: readonly ManifestRow[] = [
  { what: 'nothing', document: () => '', refused: /parse manifest/ },
  { what: 'null', document: () => 'null', refused: /manifest: expected an object/ },
  { what: 'a list', document: () => '[]', refused: /manifest: expected an object/ },
  { what: 'bytes that are no UTF-8', document: () => Buffer.from([0x7b, 0xff, 0x7d]), refused: /not valid UTF-8/ },
  { what: 'a byte order mark', document: (good) => `\ufeff${JSON.stringify(good)}`, refused: /parse manifest/ },
  {
    what: 'CVE-2021-41190: a list in letters that only some parsers take for "manifests"',
    document: (good) => ({ ...good, 'manife\u017fts': [] }),
    refused: /ambiguous, it has the key "manifeſts"/,
  },
  { what: 'a megabyte of "["', document: () => '['.repeat(1 << 20), refused: /nested deeper than 64 levels/ },
  {
    what: 'another schema version',
    document: (good) => ({ ...good, schemaVersion: 3 }),
    refused: /schemaVersion: expected 2/,
  },
  {
    what: 'a fraction as schema version',
    document: (good) => ({ ...good, schemaVersion: 2.5 }),
    refused: /schemaVersion: expected an integer/,
  },
  {
    what: 'the key "__proto__" twice',
    document: () => '{"schemaVersion":2,"__proto__":{},"__proto__":{"config":1}}',
    refused: /key "__proto__" stands twice/,
  },
  {
    what: 'a key twice, in other letters',
    document: () => '{"schemaVersion":2,"LAYERS":[],"layers":[]}',
    refused: /stands twice/,
  },
  {
    what: 'a key twice, with an escape',
    document: () => '{"schemaVersion":2,"layers":[],"l\\u0061yers":[]}',
    refused: /stands twice/,
  },
  {
    what: 'CVE-2021-41190: an image and a list',
    document: (good) => ({ ...good, manifests: [] }),
    refused: /ambiguous, it has the key "manifests"/,
  },
  {
    what: 'CVE-2021-41190: a list and an image',
    document: () => ({ schemaVersion: 2, mediaType: ociIndex, manifests: [], layers: [] }),
    contentType: ociIndex,
    refused: /ambiguous, it has the key "layers"/,
  },
  {
    what: 'CVE-2021-41190: another media type than the answer',
    document: (good) => ({ ...good, mediaType: dockerManifest }),
    refused: /media type is .* in the document, but/,
  },
  {
    what: 'CVE-2021-41190: an image that calls itself a list',
    document: (good) => ({ ...good, mediaType: ociIndex }),
    contentType: 'application/json',
    refused: /ambiguous, it has the key "config"/,
  },
  {
    what: 'CVE-2021-41190: schema 1 with a config',
    document: (good) => ({ ...good, schemaVersion: 1, fsLayers: [], history: [] }),
    refused: /ambiguous/,
  },
  {
    what: 'CVE-2021-41190: signatures in a schema 2 manifest',
    document: (good) => ({ ...good, signatures: [] }),
    refused: /ambiguous, it has the key "signatures"/,
  },
  {
    what: 'an unknown media type',
    document: (good) => ({ ...good, mediaType: 'text/html' }),
    contentType: 'text/html',
    refused: /unsupported media type "text\/html"/,
  },
  {
    what: 'no config',
    document: () => ({ schemaVersion: 2, mediaType: ociManifest, layers: [] }),
    refused: /manifest\.config: expected an object/,
  },
  {
    what: 'CVE-2024-3727: a digest with "/.."',
    document: (good) => ({ ...good, config: descriptor(ociConfig, { digest: 'sha256:/../../../etc/passwd' }) }),
    refused: /invalid checksum digest format/,
  },
  {
    what: 'CVE-2024-3727: a digest of a layer with "/.."',
    document: (good) => ({ ...good, layers: [descriptor('x', { digest: '../../x:y' })] }),
    refused: /unsupported digest algorithm/,
  },
  {
    what: 'a digest of unknown kind',
    document: (good) => ({
      ...good,
      config: descriptor(ociConfig, { digest: 'md5:d41d8cd98f00b204e9800998ecf8427e' }),
    }),
    refused: /unsupported digest algorithm/,
  },
  {
    what: 'a config id that is no sha256',
    document: (good) => ({ ...good, config: descriptor(ociConfig, { digest: `sha512:${'0'.repeat(128)}` }) }),
    refused: /is not a sha256 digest/,
  },
  {
    what: 'a negative size',
    document: (good) => ({ ...good, config: descriptor(ociConfig, { size: -1 }) }),
    refused: /config\.size: expected a number of bytes/,
  },
  {
    what: 'a size of 2^60',
    document: (good) => ({ ...good, config: descriptor(ociConfig, { size: 2 ** 60 }) }),
    refused: /config\.size: expected an integer|a number of bytes/,
  },
  {
    what: 'a size as text',
    document: (good) => ({ ...good, config: descriptor(ociConfig, { size: '10' }) }),
    refused: /config\.size: expected an integer/,
  },
  {
    what: 'no size',
    document: (good) => ({ ...good, config: { mediaType: ociConfig, digest: `sha256:${'0'.repeat(64)}` } }),
    refused: /config\.size: expected a number of bytes/,
  },
  {
    what: '501 layers',
    document: (good) => ({ ...good, layers: Array.from({ length: 501 }, () => good.layers[0]) }),
    refused: /more than 500 layers/,
  },
  {
    what: 'a list of 5001 entries',
    document: () => ({
      schemaVersion: 2,
      mediaType: dockerList,
      manifests: Array.from({ length: 5001 }, () => descriptor(dockerManifest)),
    }),
    contentType: dockerList,
    refused: /more than 5000 entries/,
  },
  {
    what: 'lists in lists in lists in lists',
    document: nestedLists,
    contentType: ociIndex,
    refused: /lists nested deeper than 3/,
  },
  {
    what: 'an empty list',
    document: () => ({ schemaVersion: 2, mediaType: ociIndex, manifests: [] }),
    contentType: ociIndex,
    refused: /there are: none/,
  },
  {
    what: 'annotations that are no text',
    document: (good) => ({ ...good, annotations: { a: 1 } }),
    refused: /annotations: expected an object of strings/,
  },
  {
    what: 'a layer type that is no layer',
    document: (good) => ({ ...good, layers: [{ ...good.layers[0], mediaType: 'application/x-sh' }] }),
    refused: /unsupported media type "application\/x-sh"/,
  },
  {
    what: 'fewer layers than the config names',
    document: (good) => ({ ...good, layers: [] }),
    refused: /names 1 layers, but the manifest has 0/,
  },
];

/** Each list names only the next one. */
function nestedLists(good: FakeImage['manifest'], registry: FakeRegistry): object {
  let inner = descriptor(ociManifest, sizeOf(good));
  for (let depth = 0; depth < 5; depth += 1) {
    const list = { schemaVersion: 2, mediaType: ociIndex, manifests: [inner] };
    registry.putManifest('a', `list-${depth}`, list, ociIndex);
    inner = descriptor(ociIndex, sizeOf(list));
  }
  return { schemaVersion: 2, mediaType: ociIndex, manifests: [inner] };
}

function sizeOf(document: object): { digest: string; size: number } {
  const data = Buffer.from(JSON.stringify(document));
  return { digest: digestOf(data), size: data.length };
}

describe('hostile manifests', () => {
  for (const { what, document, contentType = ociManifest, refused } of manifests) {
    it(what, async () => {
      await using bench = await openBench();
      const { registry } = bench;
      const made = document(putImage(registry, 'a', 'good').manifest, registry);
      const data = Buffer.isBuffer(made) ? made : Buffer.from(typeof made === 'string' ? made : JSON.stringify(made));
      registry.manifests.set('a 1', { data, contentType });
      assert.match(await failure(bench.pull(`${registry.host}/a:1`)), refused);
      assert.deepEqual(await bench.images.list(), []);
      assert.equal(({} as { config?: unknown }).config, undefined);
    });
  }

  it('100 MB, announced: not a byte of it is read', async () => {
    await using bench = await openBench();
    bench.registry.handle = (request, response) => {
      if (request.url?.includes('/manifests/') !== true) return false;
      response.writeHead(200, { 'Content-Type': ociManifest, 'Content-Length': 100e6 }).write(' ');
      return true;
    };
    assert.match(await failure(bench.pull(`${bench.registry.host}/a:1`)), /more than 4194304 bytes/);
  });

  it('a digest that the answer does not have', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const { manifest } = putImage(registry, 'a', '1');
    registry.handle = (request, response) => {
      if (request.url?.includes('/manifests/') !== true) return false;
      const headers = { 'Content-Type': ociManifest, 'Docker-Content-Digest': `sha256:${'f'.repeat(64)}` };
      response.writeHead(200, headers).end(JSON.stringify(manifest));
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /against its Docker-Content-Digest: digest is/);
  });
});

/** The whole config document of an image of one layer, or its `config` part; accepted ones are checked as listed. */
interface ConfigRow {
  readonly what: string;
  readonly config?: object;
  readonly text?: (diffId: string) => string;
  readonly refused?: RegExp;
  readonly check?: (config: ImageConfig) => void;
}

const labels = (config: ImageConfig): object => Object.fromEntries(config.labels);

const configs: readonly ConfigRow[] = [
  { what: 'a NUL in the environment', config: { Env: ['A=\0'] }, refused: /config\.Env: contains a NUL character/ },
  { what: 'a NUL in the user', config: { User: 'root\0' }, refused: /config\.User: contains a NUL/ },
  { what: 'a NUL in the command', config: { Cmd: ['a\0b'] }, refused: /config\.Cmd: contains a NUL/ },
  { what: 'a NUL in a volume', config: { Volumes: { '/a\0': {} } }, refused: /config\.Volumes: contains a NUL/ },
  { what: 'a user that is a number', config: { User: 0 }, refused: /config\.User: expected a string/ },
  { what: 'an environment that is an object', config: { Env: {} }, refused: /config\.Env: expected a list/ },
  { what: 'an environment of numbers', config: { Env: [1] }, refused: /config\.Env: expected a list of strings/ },
  { what: 'labels of numbers', config: { Labels: { a: 1 } }, refused: /config\.Labels: expected an object of strings/ },
  {
    what: 'newlines in the environment',
    config: { Env: ['A=1\n2', 'B'] },
    check: ({ env }) => assert.deepEqual(env, ['A=1\n2', 'B']),
  },
  {
    what: 'an entrypoint of 1 MB',
    config: { Entrypoint: ['x'.repeat(1 << 20)] },
    check: ({ entrypoint }) => assert.equal(entrypoint[0]?.length, 1 << 20),
  },
  {
    what: 'an entrypoint as text',
    config: { Entrypoint: '/bin/sh' },
    check: ({ entrypoint }) => assert.deepEqual(entrypoint, ['/bin/sh']),
  },
  {
    what: 'null everywhere',
    config: { User: null, Env: null, Cmd: null, Labels: null, Volumes: null, WorkingDir: null },
    check: ({ env, volumes }) => assert.deepEqual([env, volumes], [[], []]),
  },
  {
    what: 'no config at all',
    text: (diffId) => `{"rootfs":{"diff_ids":["${diffId}"]},"config":null}`,
    check: ({ user }) => assert.equal(user, ''),
  },
  {
    what: 'a key twice: the last one counts, as for the runtime',
    text: (diffId) => `{"config":{"User":"1","User":"2"},"rootfs":{"diff_ids":["${diffId}"]}}`,
    check: ({ user }) => assert.equal(user, '2'),
  },
  {
    what: 'keys of every object there is',
    text: (diffId) =>
      `{"__proto__":{"polluted":1},"constructor":{},"config":{"__proto__":{"User":"root"},"Labels":{"__proto__":"a","constructor":"b","toString":"c"}},"rootfs":{"diff_ids":["${diffId}"]}}`,
    check(config) {
      assert.equal(config.user, '');
      assert.deepEqual(Object.entries(labels(config)), [
        ['__proto__', 'a'],
        ['constructor', 'b'],
        ['toString', 'c'],
      ]);
    },
  },
  {
    what: 'deep nesting',
    text: (diffId) => `{"x":${'['.repeat(100_000)}${']'.repeat(100_000)},"rootfs":{"diff_ids":["${diffId}"]}}`,
    refused: /nested deeper than 64 levels/,
  },
  {
    what: 'another diffID than the layer has',
    text: () => `{"rootfs":{"diff_ids":["sha256:${'0'.repeat(64)}"]}}`,
    refused: /layer has diffID/,
  },
  {
    what: 'a diffID that is a path',
    text: () => '{"rootfs":{"diff_ids":["sha256:../../x"]}}',
    refused: /invalid checksum digest format/,
  },
  {
    what: 'a time that is none',
    text: (diffId) => `{"created":"yesterday","rootfs":{"diff_ids":["${diffId}"]}}`,
    check: ({ user }) => assert.equal(user, ''),
  },
];

describe('hostile image configs', () => {
  for (const { what, config, text, refused, check } of configs) {
    it(what, async () => {
      await using bench = await openBench();
      const name = `${bench.registry.host}/a:1`;
      if (text === undefined) putImage(bench.registry, 'a', '1', { config: config ?? {} });
      else putConfig(bench, text);
      if (refused !== undefined) {
        assert.match(await failure(bench.pull(name)), refused);
        assert.deepEqual(await bench.images.list(), []);
        return;
      }
      await bench.pull(name);
      const found = await bench.images.find(name);
      assert.ok(found !== undefined);
      check?.(found.config);
      assert.equal(({} as { polluted?: number; User?: string }).polluted ?? ({} as { User?: string }).User, undefined);
    });
  }
});

/** An image with this config document, whatever it is. */
function putConfig({ registry }: Bench, text: (diffId: string) => string): void {
  const content = Buffer.from('the layer');
  const { manifest } = putImage(registry, 'a', '1', { layers: [content] });
  const config = registry.putBlob(Buffer.from(text(digestOf(content))));
  registry.putManifest('a', '1', { ...manifest, config: { mediaType: ociConfig, ...config } });
}
