import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { failure, noise, openBench } from './testing/bench.ts';
import type { Bench } from './testing/bench.ts';
import { putImage, putSchema1, sendError, startFakeRegistry } from './testing/fake-registry.ts';
import type { FakeRegistry } from './testing/fake-registry.ts';

const mirrorToml = (mirror: string) => (host: string) =>
  `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror}"\ninsecure = true`;

const isBlob = (url: string | undefined) => url?.includes('/blobs/') === true;
const isManifest = (url: string | undefined) => url?.includes('/manifests/') === true;

/** Sends one byte every few milliseconds until the client has enough of it. */
function trickle(response: Parameters<FakeRegistry['handle']>[1], length: number): void {
  response.writeHead(200, { 'Content-Length': length });
  const timer = setInterval(() => response.write('x'), 20);
  response.on('close', () => clearInterval(timer));
}

describe('budgets of an endpoint', () => {
  it('count apart: a mirror that uses up its own leaves the next one all of its time', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({ toml: mirrorToml(mirror.host), limits: { firstByteMs: 300 } });
    const image = putImage(bench.registry, 'a', '1');
    mirror.handle = (request) => isManifest(request.url); // hangs
    bench.registry.handle = (request, response) => {
      if (!isManifest(request.url)) return false;
      const manifest = bench.registry.manifests.get('a 1');
      setTimeout(() => response.writeHead(200, { 'Content-Type': manifest?.contentType }).end(manifest?.data), 200);
      return true;
    };
    assert.equal(await bench.pull(`${bench.registry.host}/a:1`), image.id);
  });

  it('a connection that is not made in time is named: a server that takes it and says nothing', async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo; // a TCP server has no other kind
    await using bench = await openBench({ toml: () => '', limits: { connectMs: 200 } });
    assert.match(
      await failure(bench.pull(`127.0.0.1:${port}/a:1`)),
      new RegExp(`no connection to 127\\.0\\.0\\.1:${port} within 0\\.2 s`),
    );
    silent.close();
  });

  it('a body of one byte at a time is left for the next endpoint, which goes on where it was', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({
      toml: mirrorToml(mirror.host),
      limits: { minBytesPerSecond: 1000, windowMs: 200 },
    });
    const layers = [noise(100_000)];
    const image = putImage(bench.registry, 'a', '1', { layers });
    putImage(mirror, 'a', '1', { layers });
    const [digest = ''] = image.layerDigests;
    const blob = mirror.blobs.get(digest) ?? Buffer.alloc(0);
    mirror.handle = (request, response) => {
      if (request.url?.endsWith(digest) !== true) return false;
      response.writeHead(200, { 'Content-Length': blob.length });
      let at = 0;
      const timer = setInterval(() => response.write(blob.subarray(at, ++at)), 20);
      response.on('close', () => clearInterval(timer));
      return true;
    };
    assert.equal(await bench.pull(`${bench.registry.host}/a:1`), image.id);
    assert.equal(mirror.requests.filter(({ line }) => line.includes(digest)).length, 1);
    assert.match(bench.registry.requests.find(({ line }) => line.includes(digest))?.range ?? '', /^bytes=\d+-$/);
  });

  it('a body of one byte at a time ends, when there is no other endpoint', async () => {
    await using bench = await openBench({ limits: { minBytesPerSecond: 1000, windowMs: 100 } });
    putImage(bench.registry, 'a', '1', { layers: [noise(100_000)] });
    bench.registry.handle = (request, response) => {
      if (!isBlob(request.url)) return false;
      trickle(response, 100_000);
      return true;
    };
    assert.match(await failure(bench.pull(`${bench.registry.host}/a:1`)), /only \d+ bytes a second over 0\.1 s/);
  });
});

describe('busy registries', () => {
  const shapes: readonly (readonly [string, number, string, Record<string, string>])[] = [
    ['429 with a JSON document', 429, '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}', {}],
    ['429 with a page', 429, '<html>Too Many Requests</html>', { 'Content-Type': 'text/html' }],
    ['403 with the code for 429', 403, '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}', {}],
    ['503 with Retry-After', 503, '', { 'Retry-After': '0' }],
    ['429 with a Retry-After that is none', 429, '', { 'Retry-After': 'soon' }],
  ];
  for (const [shape, status, body, headers] of shapes) {
    for (const [kind, matches] of [
      ['manifest', isManifest],
      ['blob', isBlob],
    ] as const) {
      it(`are asked again for a ${kind} after ${shape}`, async () => {
        await using bench = await openBench();
        const image = putImage(bench.registry, 'a', '1');
        let refusals = 0;
        bench.registry.handle = (request, response) => {
          if (!matches(request.url) || refusals === 2) return false;
          refusals += 1;
          response.writeHead(status, headers).end(body);
          return true;
        };
        assert.equal(await bench.pull(`${bench.registry.host}/a:1`), image.id);
      });
    }
  }

  it('are given up after some tries, with what they said', async () => {
    await using bench = await openBench();
    let asked = 0;
    bench.registry.handle = (request, response) => {
      if (!isManifest(request.url)) return false;
      asked += 1;
      sendError(response, 429, 'TOOMANYREQUESTS', 'no more today');
      return true;
    };
    assert.match(await failure(bench.pull(`${bench.registry.host}/a:1`)), /429 too many requests: .*no more today/);
    assert.equal(asked, 4);
  });

  it('may be token servers', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    let asked = 0;
    registry.handle = (request, response) => {
      if (request.url?.startsWith('/token') === true) {
        asked += 1;
        if (asked === 1) sendError(response, 429, 'TOOMANYREQUESTS', 'slow down', { 'Retry-After': '0' });
        else response.end('{"token":"t"}');
        return true;
      }
      if (request.headers.authorization === 'Bearer t' || request.url === '/v2/') return false;
      const challenge = `Bearer realm="http://${registry.host}/token",service="s"`;
      sendError(response.setHeader('WWW-Authenticate', challenge), 401, 'UNAUTHORIZED', 'no');
      return true;
    };
    assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
    assert.ok(asked > 1);
  });
});

describe('resuming a blob', () => {
  /** The first answer breaks after ten bytes; `answer` gives the next ones. */
  async function resume(
    bench: Bench,
    answer: (round: number, response: Parameters<FakeRegistry['handle']>[1], blob: Buffer, start: number) => void,
  ): Promise<{ pulled: Promise<string>; id: string }> {
    const { registry } = bench;
    const image = putImage(registry, 'a', '1', { layers: [noise(5000)] });
    const [digest = ''] = image.layerDigests;
    const blob = registry.blobs.get(digest) ?? Buffer.alloc(0);
    let round = 0;
    registry.handle = (request, response) => {
      if (request.url?.endsWith(digest) !== true) return false;
      round += 1;
      if (round === 1) {
        response.writeHead(200, { 'Content-Length': blob.length });
        response.write(blob.subarray(0, 10), () => setTimeout(() => response.destroy(), 20));
      } else {
        answer(round, response, blob, Number(/bytes=(\d+)/.exec(request.headers.range ?? '')?.[1] ?? 0));
      }
      return true;
    };
    return { pulled: bench.pull(`${registry.host}/a:1`), id: image.id };
  }

  it('takes a 200 from the start, as of a server that knows no ranges', async () => {
    await using bench = await openBench();
    const { pulled, id } = await resume(bench, (_, response, blob) => response.end(blob));
    assert.equal(await pulled, id);
  });

  it('asks without a range after 416', async () => {
    await using bench = await openBench();
    const starts: number[] = [];
    const { pulled, id } = await resume(bench, (round, response, blob, start) => {
      starts.push(start);
      if (round === 2) response.writeHead(416, { 'Content-Range': `bytes */${blob.length}` }).end();
      else response.end(blob);
    });
    assert.equal(await pulled, id);
    assert.deepEqual(starts, [10, 0]);
  });

  for (const [lie, range] of [
    ['another start', (length: number) => `bytes 0-${length - 1}/${length}`],
    ['no range', () => ''],
    ['nonsense', () => 'bytes ten-end'],
  ] as const) {
    it(`refuses a 206 with ${lie}`, async () => {
      await using bench = await openBench();
      const { pulled } = await resume(bench, (_, response, blob) => {
        const header = range(blob.length);
        response.writeHead(206, header === '' ? {} : { 'Content-Range': header }).end(blob);
      });
      assert.match(await failure(pulled), /answered another range than asked for/);
    });
  }

  it('finds out a 206 that has the right range and other bytes', async () => {
    await using bench = await openBench();
    const { pulled } = await resume(bench, (_, response, blob, start) => {
      const rest = Buffer.from(blob.subarray(start)).reverse();
      response.writeHead(206, { 'Content-Range': `bytes ${start}-${blob.length - 1}/${blob.length}` }).end(rest);
    });
    assert.match(await failure(pulled), /blob has digest/);
    assert.deepEqual(await bench.images.list(), []);
  });

  it('refuses a 206 that nobody asked for', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    registry.handle = (request, response) => {
      if (request.url?.endsWith(image.layerDigests[0] ?? '') !== true) return false;
      response.writeHead(206, { 'Content-Range': 'bytes 5-9/10' }).end('12345');
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /answered another range than asked for/);
  });
});

describe('the circuit breaker', () => {
  it('remembers a mirror that dies between layers: its limit is paid once, not per layer and not by the next pull', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({ toml: mirrorToml(mirror.host), limits: { firstByteMs: 300 } });
    const layers = Array.from({ length: 12 }, (_, index) => Buffer.from(`layer ${index}`));
    for (const tag of ['1', '2']) {
      putImage(bench.registry, 'a', tag, { layers: [...layers, Buffer.from(tag)] });
      putImage(mirror, 'a', tag, { layers: [...layers, Buffer.from(tag)] });
    }
    let hanging = 0;
    mirror.handle = (request) => {
      // The config comes, the layers do not.
      const digest = request.url?.split('/').at(-1) ?? '';
      if (!isBlob(request.url) || (mirror.blobs.get(digest)?.[0] ?? 0) !== 0x1f) return false;
      hanging += 1;
      return true;
    };
    await bench.pull(`${bench.registry.host}/a:1`);
    assert.ok(hanging <= 4, `${hanging} layers waited for the dead mirror, at most the four at a time may`);
    const asked = mirror.requests.length;
    await bench.pull(`${bench.registry.host}/a:2`);
    assert.equal(mirror.requests.length, asked);
  });

  it('counts a mirror whose blobs come from a dead host', async () => {
    await using mirror = await startFakeRegistry();
    const dead = await startFakeRegistry();
    await dead[Symbol.asyncDispose]();
    await using bench = await openBench({ toml: mirrorToml(mirror.host) });
    const image = putImage(bench.registry, 'a', '1');
    putImage(mirror, 'a', '1');
    mirror.handle = (request, response) => {
      if (!isBlob(request.url)) return false;
      response.writeHead(307, { Location: `http://${dead.host}/x` }).end();
      return true;
    };
    assert.equal(await bench.pull(`${bench.registry.host}/a:1`), image.id);
    const asked = mirror.requests.length;
    putImage(bench.registry, 'a', '2');
    await bench.pull(`${bench.registry.host}/a:2`);
    assert.equal(mirror.requests.length, asked);
  });

  it('never keeps from asking the only place there is', async () => {
    const registry = await startFakeRegistry();
    await using bench = await openBench({
      toml: () => `[[registry]]\nlocation = "${registry.host}"\ninsecure = true`,
      limits: { firstByteMs: 100 },
    });
    await using _registry = registry;
    const image = putImage(registry, 'a', '1');
    registry.handle = (request) => isManifest(request.url);
    await failure(bench.pull(`${registry.host}/a:1`));
    registry.handle = () => false;
    assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
  });
});

describe('pull_progress_timeout', () => {
  const slowBlob = (registry: FakeRegistry, pauseMs: number): void => {
    registry.handle = (request, response) => {
      const blob = registry.blobs.get(request.url?.split('/').at(-1) ?? '');
      // The layer, which is compressed, and not the config.
      if (blob?.[0] !== 0x1f) return false;
      response.writeHead(200, { 'Content-Length': blob.length });
      void (async () => {
        for (let at = 0; at < 8; at++) {
          response.write(blob.subarray((at * blob.length) / 8, ((at + 1) * blob.length) / 8));
          await sleep(pauseMs);
        }
        response.end();
      })();
      return true;
    };
  };

  it('does not end a pull that is slow but moves', async () => {
    await using bench = await openBench({ image: () => ({ pullProgressTimeoutMs: 500 }) });
    const image = putImage(bench.registry, 'a', '1', { layers: [noise(8000)] });
    slowBlob(bench.registry, 80);
    assert.equal(await bench.pull(`${bench.registry.host}/a:1`), image.id);
  });

  it('does not end the first reading of a schema 1 layer that is slow but moves, and shows it', async () => {
    await using bench = await openBench({ image: () => ({ pullProgressTimeoutMs: 500 }) });
    const { registry, images } = bench;
    const content = noise(8000);
    putSchema1(registry, 'a', '1', content);
    slowBlob(registry, 80);
    const pulling = bench.pull(`${registry.host}/a:1`);
    const isShown = async (): Promise<boolean> => {
      const [shown] = images.pulls();
      if (shown === undefined) return false;
      const bytes = shown.layers[0]?.downloadedBytes ?? 0;
      if (shown.layers[0]?.sizeBytes === 0 && bytes > 0 && shown.phase === 'layers') return true;
      await sleep(5);
      return isShown();
    };
    const [wasShown] = await Promise.all([isShown(), pulling]);
    assert.ok(wasShown);
    assert.deepEqual([...bench.store.layerContents.values()], [content]);
  });

  it('is no limit when it is 0', async () => {
    await using bench = await openBench({ image: () => ({ pullProgressTimeoutMs: 0 }), limits: { stallMs: 10_000 } });
    const image = putImage(bench.registry, 'a', '1', { layers: [noise(8000)] });
    slowBlob(bench.registry, 100);
    assert.equal(await bench.pull(`${bench.registry.host}/a:1`), image.id);
  });
});
