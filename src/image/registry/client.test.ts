import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { describe, it } from 'node:test';
import { failure, openBench } from '../testing/bench.ts';
import { putImage } from '../testing/fake-registry.ts';

/** Announces all of the body, sends five bytes of it, and resets the connection. */
function sendBroken(response: ServerResponse, body: Buffer, contentType: string): void {
  response.writeHead(200, { 'Content-Type': contentType, 'Content-Length': body.length });
  response.write(body.subarray(0, 5), () => setTimeout(() => response.socket?.resetAndDestroy(), 20));
}

describe('a document whose connection breaks', () => {
  for (const what of ['manifest', 'config'] as const) {
    it(`is read again from the only endpoint: a ${what}`, async () => {
      await using bench = await openBench();
      const { registry } = bench;
      const image = putImage(registry, 'a', '1');
      const manifest = registry.manifests.get('a 1')?.data ?? Buffer.alloc(0);
      const [path, body] =
        what === 'manifest' ? ['/manifests/1', manifest] : [image.id, registry.blobs.get(`sha256:${image.id}`)];
      let asked = 0;
      registry.handle = (request, response) => {
        if (request.url?.endsWith(path) !== true || asked++ > 0) return false;
        sendBroken(response, body ?? Buffer.alloc(0), image.manifest.mediaType);
        return true;
      };
      assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
      assert.equal(asked, 2);
    });
  }

  it('is given up after some tries', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    let asked = 0;
    registry.handle = (request, response) => {
      if (request.url?.endsWith('/manifests/1') !== true) return false;
      asked += 1;
      sendBroken(response, Buffer.alloc(500), image.manifest.mediaType);
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /read manifest 1: .*aborted/);
    assert.equal(asked, 4);
  });

  it('is not read again when it is whole and wrong', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    let asked = 0;
    registry.handle = (request, response) => {
      if (request.url?.endsWith(image.id) !== true) return false;
      asked += 1;
      response.end(Buffer.alloc(registry.blobs.get(`sha256:${image.id}`)?.length ?? 0));
      return true;
    };
    assert.match(await failure(bench.pull(`${registry.host}/a:1`)), /verify blob sha256:.*: digest is/);
    assert.equal(asked, 1);
  });
});
