import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { digestOf } from './digest.ts';
import { mediaTypes } from './media-types.ts';
import { hostPlatform } from './platform.ts';
import { putImage, startFakeRegistry } from './testing/fake-registry.ts';
import type { FakeImage, FakeRegistry } from './testing/fake-registry.ts';
import { createFakeStore } from './testing/fake-store.ts';
import { insecure, openImages, pull } from './testing/open-images.ts';
import type { ImageService } from './create-images.ts';

/** The same list, given to skopeo and to us: both must take the same entry, or none. */
const folder = mkdtempSync(join(tmpdir(), 'lists-'));
let registry: FakeRegistry;
let images: ImageService;
let entries: Readonly<Record<'a' | 'b', FakeImage>>;

before(async () => {
  registry = await startFakeRegistry();
  images = await openImages({ store: createFakeStore(folder), folder, toml: insecure(registry.host) });
  entries = { a: putImage(registry, 'app', 'a'), b: putImage(registry, 'app', 'b') };
});

after(async () => {
  await images[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const { os, architecture } = hostPlatform;
const here = { os, architecture };
const elsewhere = { os, architecture: 's390x' };

/** Platforms of the entries, in this order. */
type Entries = Readonly<Partial<Record<'a' | 'b', object | undefined>>>;

const rows: readonly (readonly [string, Entries, 'a' | 'b' | 'none'])[] = [
  ['the one for this platform', { a: elsewhere, b: here }, 'b'],
  ['the first for this platform', { a: here, b: here }, 'a'],
  ['the one for this platform, not one without', { a: undefined, b: here }, 'b'],
  ['the first without a platform', { a: undefined, b: undefined }, 'a'],
  ['the one without a platform, not one for another', { a: elsewhere, b: undefined }, 'b'],
  ['none for other platforms', { a: elsewhere }, 'none'],
  ['none for an empty platform', { a: {} }, 'none'],
];

describe('the entry of a list', () => {
  for (const [index, [what, list, want]] of rows.entries()) {
    it(`is ${what}, as for skopeo`, async () => {
      const name = putList(`${index}`, mediaTypes.ociIndex, list);
      assert.deepEqual(await choices(name), { ours: want, skopeos: want });
    });
  }

  it('is the first without a platform in a Docker list, too, which skopeo does not take', async () => {
    const name = putList('docker', mediaTypes.dockerList, { a: undefined, b: undefined });
    assert.deepEqual(await choices(name), { ours: 'a', skopeos: 'none' });
  });
});

function putList(tag: string, mediaType: string, list: Entries): string {
  const manifests = (['a', 'b'] as const)
    .filter((which) => which in list)
    .map((which) => {
      const { manifest, manifestDigest: digest } = entries[which];
      const size = JSON.stringify(manifest).length;
      return { mediaType: manifest.mediaType, digest, size, platform: list[which] };
    });
  registry.putManifest('app', tag, { schemaVersion: 2, mediaType, manifests }, mediaType);
  return `${registry.host}/app:${tag}`;
}

async function choices(name: string): Promise<{ readonly ours: string; readonly skopeos: string }> {
  const [ours, skopeos] = await Promise.all([pull(images, name).catch(noImage), skopeoChoice(name).catch(noImage)]);
  return { ours: entryOf(ours), skopeos: entryOf(skopeos) };
}

/** The image's id, of the config that skopeo shows. */
async function skopeoChoice(name: string): Promise<string> {
  const args = ['inspect', '--config', '--raw', '--tls-verify=false', `docker://${name}`];
  const { stdout } = await promisify(execFile)('skopeo', args);
  return digestOf(Buffer.from(stdout)).slice('sha256:'.length);
}

/** Any other failure is one of the test. */
function noImage(error: unknown): 'none' {
  assert.match(String(error), /no image found in /);
  return 'none';
}

function entryOf(id: string): string {
  return (['a', 'b'] as const).find((which) => entries[which].id === id) ?? id;
}
