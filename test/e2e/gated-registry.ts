import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { putImage, startFakeRegistry, type FakeImage } from '../../src/image/testing/fake-registry.ts';
import { writeTar } from '../fixtures/tar.ts';
import { write } from '../run/node-files.ts';

/** A registry that sends half of each layer and then waits: a pull stands still where a test wants to look at it. */
export interface GatedRegistry extends AsyncDisposable {
  /** `127.0.0.1:port`; its images are `HOST/gated/NAME:1`. */
  readonly host: string;
  /** An image whose layers do not compress, of so many bytes each. */
  put(name: string, layerSizes: readonly number[]): FakeImage & { readonly name: string };
  /** Sends the rest of all layers, now and later. */
  open(): void;
  /** Layers stop in the middle from now on, as in the beginning. */
  close(): void;
}

/** Declared insecure in a drop-in of registries.conf, so before the daemon starts. */
export async function startGatedRegistry(): Promise<GatedRegistry> {
  const registry = await startFakeRegistry();
  write(
    '/etc/containers/registries.conf.d/gated.conf',
    `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`,
  );
  const gated = new Set<string>();
  const waiting = new Set<() => void>();
  let isOpen = false;
  registry.handle = (request, response) => {
    const digest = /\/blobs\/(sha256:\w+)$/.exec(request.url ?? '')?.[1] ?? '';
    const blob = registry.blobs.get(digest);
    if (isOpen || blob === undefined || !gated.has(digest) || request.headers.range !== undefined) return false;
    sendHalf(response, blob, waiting);
    return true;
  };
  const open = () => {
    isOpen = true;
    for (const send of waiting) send();
    waiting.clear();
  };
  return {
    host: registry.host,
    put(name, layerSizes) {
      const layers = layerSizes.map((size, index) =>
        writeTar([{ type: 'file', path: `${name}-${index}`, content: randomBytes(size) }]),
      );
      const image = putImage(registry, `gated/${name}`, '1', { layers });
      for (const digest of image.layerDigests) gated.add(digest);
      return { ...image, name: `${registry.host}/gated/${name}:1` };
    },
    open,
    close: () => (isOpen = false),
    async [Symbol.asyncDispose]() {
      open();
      await registry[Symbol.asyncDispose]();
    },
  };
}

function sendHalf(response: ServerResponse, blob: Buffer, waiting: Set<() => void>): void {
  const half = blob.length >> 1;
  response.writeHead(200, { 'Content-Length': blob.length });
  response.write(blob.subarray(0, half));
  waiting.add(() => response.end(blob.subarray(half)));
}
