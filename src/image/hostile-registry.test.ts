import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { digestOf } from './digest.ts';
import { mediaTypes } from './media-types.ts';
import { failure, noise, openBench } from './testing/bench.ts';
import { putImage, sendError, startFakeRegistry } from './testing/fake-registry.ts';

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

  it('CVE-2024-3727: no digest that is none becomes part of a path, whoever gives it', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const { manifest } = putImage(registry, 'a', '1');
    const digest = 'sha256:../../../../v2/other/blobs/passwd';
    const list = { schemaVersion: 2, manifests: [{ mediaType: mediaTypes.ociManifest, digest, size: 10 }] };
    registry.putManifest('a', 'list', { ...list, mediaType: mediaTypes.ociIndex }, mediaTypes.ociIndex);
    registry.putManifest('a', 'layer', { ...manifest, layers: [{ ...manifest.layers[0], digest }] });
    const credentials = { username: 'u', password: 'p' };
    for (const tag of ['list', 'layer', `header`]) {
      if (tag === 'header') {
        registry.handle = (request, response) => {
          if (request.url?.endsWith('/header') !== true) return false;
          response.writeHead(200, { 'Content-Type': mediaTypes.ociManifest, 'Docker-Content-Digest': digest });
          response.end(JSON.stringify(manifest));
          return true;
        };
      }
      const refused = await failure(bench.pull(`${registry.host}/a:${tag}`, { credentials }));
      assert.match(refused, /invalid checksum digest format/, tag);
    }
    await assert.rejects(bench.pull(`${registry.host}/a@${digest}`, { credentials }), /invalid checksum digest format/);
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

  it('CVE-2023-25153: reads no more than 4 MiB of an image config, announced or not', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const { manifest } = putImage(registry, 'a', '1');
    const big = registry.putBlob(Buffer.alloc(5 << 20, 0x20));
    const withConfig = (size: number) =>
      registry.putManifest('a', '1', {
        ...manifest,
        config: { mediaType: mediaTypes.ociConfig, digest: big.digest, size },
      });
    withConfig(big.size);
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /5242880 bytes, more than 4194304/);
    assert.ok(registry.requests.every(({ line }) => !line.includes(big.digest)));
    withConfig(100);
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /more than 4194304 bytes/);
  });

  it('CVE-2026-53488: labels of an image are data, whatever they are called', async () => {
    await using bench = await openBench();
    const { registry, images } = bench;
    const labels = {
      'io.containerd.image.unpack': '/bin/sh -c id',
      'io.kubernetes.cri-o.PinnedImage': 'true',
      'run.oci.hooks.prestart': '/bin/sh',
      pinned: 'true',
    };
    putImage(registry, 'a', 'plain');
    putImage(registry, 'a', 'labels', { config: { Labels: labels } });
    await bench.pull(`${registry.host}/a:plain`);
    await bench.pull(`${registry.host}/a:labels`);
    const [plain, labelled] = await Promise.all(
      ['plain', 'labels'].map((tag) => images.find(`${registry.host}/a:${tag}`)),
    );
    assert.ok(plain !== undefined && labelled !== undefined);
    assert.deepEqual(Object.fromEntries(labelled.config.labels), labels);
    assert.deepEqual([labelled.pinned, labelled.artifact], [false, undefined]);
    assert.deepEqual(labelled.annotations, plain.annotations);
    assert.deepEqual({ ...labelled.config, labels: 0, document: 0 }, { ...plain.config, labels: 0, document: 0 });
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
