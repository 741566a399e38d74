import { createHash } from 'node:crypto';
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '../fixtures/build.ts';
import { pushBlob, pushManifest, startRegistry, type Registry } from '../fixtures/registry.ts';
import { compress, writeTar, type TarEntry } from '../fixtures/tar.ts';
import { repository } from '../run/stage.ts';

/**
 * The image that pulls are measured with: seven layers that stay the same, above a small one that each variant has of its
 * own. A variant's layers have other ids in a store, so all are fetched and unpacked again without a removal before.
 */
export interface BenchImage {
  /** A docker-registry's folder with the layers. */
  readonly storage: string;
  readonly repository: string;
  /** Without the variant's own, which the sums below include */
  readonly layers: readonly Layer[];
  readonly files: number;
  /** Bytes of all files */
  readonly contentBytes: number;
  /** Bytes of all blobs */
  readonly blobBytes: number;
}

interface Layer {
  readonly diffId: string;
  readonly digest: string;
  readonly size: number;
}

/** Like an application on a distribution's base: many small files, some large ones, and two layers with little in them. */
const layerShapes = [
  { megabytes: 75, files: 3500 },
  { megabytes: 40, files: 1200 },
  { megabytes: 90, files: 400 },
  { megabytes: 50, files: 7500 },
  { megabytes: 25, files: 2500 },
  { megabytes: 15, files: 700 },
  { megabytes: 4, files: 180 },
] as const;
const variantShape = { megabytes: 1, files: 20 };
const tagCount = 10;
const cache = join(repository, 'build/fixtures');

/** Built once per state of this file and of the packages whose content it takes. */
export async function buildBenchImage(size: 'full' | 'small'): Promise<BenchImage> {
  const hash = createHash('sha256');
  for (const file of [import.meta.filename, join(repository, 'package-lock.json')]) hash.update(readFileSync(file));
  const folder = join(cache, `pull-${size}-${hash.digest('hex').slice(0, 12)}`);
  if (!existsSync(folder)) await buildInto(folder, size);
  // Written by `buildInto`.
  const known = JSON.parse(readFileSync(join(folder, 'image.json'), 'utf8')) as Omit<BenchImage, 'storage'>;
  return { ...known, storage: join(folder, 'registry') };
}

async function buildInto(folder: string, size: 'full' | 'small'): Promise<void> {
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  await using registry = await startRegistry({ storage: join(unfinished, 'registry') });
  const material = readMaterial();
  const random = randomFrom(1);
  const scale = size === 'full' ? 1 : 1 / 25;
  const ownBytes = variantShape.megabytes * 1e6;
  const image = {
    repository: `bench/${size}`,
    layers: [] as Layer[],
    files: variantShape.files,
    contentBytes: ownBytes,
    // Noise does not become smaller.
    blobBytes: ownBytes,
  };
  for (const [index, shape] of layerShapes.entries()) {
    const files = Math.ceil(shape.files * scale);
    const entries = makeLayer(`layer-${index}`, { files, bytes: shape.megabytes * scale * 1e6 }, material, random);
    const layer = await pushLayer(registry, image.repository, entries);
    image.layers.push(layer);
    image.files += files;
    image.contentBytes += contentOf(entries);
    image.blobBytes += layer.size;
  }
  writeFileSync(join(unfinished, 'image.json'), JSON.stringify(image));
  renameSync(unfinished, folder);
}

/** Puts a variant into the registry, and returns the ten names of its one manifest. */
export async function pushVariant(registry: Registry, image: BenchImage, variant: number): Promise<string[]> {
  const shape = { files: variantShape.files, bytes: variantShape.megabytes * 1e6 };
  const random = randomFrom(variant + 2);
  const noise = makeNoise(2e6, random);
  const entries = makeLayer(`variant-${variant}`, shape, { code: noise, text: noise }, random);
  const layers = [await pushLayer(registry, image.repository, entries), ...image.layers];
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Cmd: ['sh'] },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
    }),
  );
  await pushBlob(registry, image.repository, config);
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const content = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: digestOf(config),
        size: config.length,
      },
      layers: layers.map(({ digest, size }) => ({
        mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
        digest,
        size,
      })),
    }),
  );
  const tags = Array.from({ length: tagCount }, (_, index) => `v${variant}-${index}`);
  for (const reference of tags) await pushManifest(registry, image.repository, { reference, mediaType, content });
  return tags.map((tag) => `${registry.address}/${image.repository}:${tag}`);
}

async function pushLayer(registry: Registry, name: string, entries: readonly TarEntry[]): Promise<Layer> {
  const tar = writeTar(entries);
  const blob = compress(tar, 'gzip');
  await pushBlob(registry, name, blob);
  return { diffId: digestOf(tar), digest: digestOf(blob), size: blob.length };
}

function contentOf(entries: readonly TarEntry[]): number {
  return entries.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.content.length : 0), 0);
}

/** Machine code and text of real programs, so that it compresses as an image does; the slices of files are taken from it. */
interface Material {
  readonly code: Buffer;
  readonly text: Buffer;
}

function readMaterial(): Material {
  const texts = globSync('**/*.{js,mjs,cjs,ts,json,md,proto}', { cwd: join(repository, 'node_modules') }).toSorted();
  const parts: Buffer[] = [];
  for (const name of texts) {
    const part = readFileSync(join(repository, 'node_modules', name));
    // A few generated files are most of the text.
    parts.push(part.subarray(0, 200_000));
  }
  return { code: readFileSync(process.execPath), text: Buffer.concat(parts) };
}

function makeLayer(
  root: string,
  { files, bytes }: { readonly files: number; readonly bytes: number },
  material: Material,
  random: () => number,
): TarEntry[] {
  const sizes = fileSizes(files, bytes, random);
  const entries: TarEntry[] = [{ type: 'directory', path: root }];
  const perFolder = 12;
  for (const [at, size] of sizes.entries()) {
    const folder = `${root}/part-${Math.floor(at / (perFolder * 20))}`;
    const below = `${folder}/component-${Math.floor(at / perFolder)}`;
    if (at % (perFolder * 20) === 0) entries.push({ type: 'directory', path: folder });
    if (at % perFolder === 0) entries.push({ type: 'directory', path: below });
    const path = `${below}/file-${at}.${size > 100_000 ? 'so' : 'js'}`;
    entries.push({
      type: 'file',
      path,
      mode: at % 7 === 0 ? 0o755 : 0o644,
      content: makeContent(size, material, random),
    });
    if (at % 15 === 0) entries.push({ type: 'symlink', path: `${below}/link-${at}`, target: `file-${at}` });
  }
  return entries;
}

/** Log-normal, as sizes of files are, brought to the wanted sum. */
function fileSizes(files: number, bytes: number, random: () => number): number[] {
  const raw = Array.from({ length: files }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.exp(1.7 * normal);
  });
  const factor = bytes / raw.reduce((sum, value) => sum + value, 0);
  return raw.map((value) => Math.round(value * factor));
}

/** Large files are mostly programs, small ones text; one in twelve is packed already, as pictures and archives are. */
function makeContent(size: number, { code, text }: Material, random: () => number): Buffer {
  if (random() < 1 / 12) return makeNoise(size, random);
  const source = size > 100_000 || random() < 0.2 ? code : text;
  const length = Math.min(size, source.length);
  const start = Math.floor(random() * (source.length - length));
  return source.subarray(start, start + length);
}

function makeNoise(size: number, random: () => number): Buffer {
  const noise = Buffer.alloc(size);
  for (let at = 0; at < size; at++) noise[at] = random() * 256;
  return noise;
}

/** Numbers in [0, 1), the same at every run (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
