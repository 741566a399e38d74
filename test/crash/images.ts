import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage } from '../../src/storage/testing/build-image.ts';
import type { TestImage } from '../../src/storage/testing/build-image.ts';
import type { EntrySpec } from '../../src/storage/testing/build-tar.ts';
import { pushBlob, pushManifest, startRegistry } from '../fixtures/registry.ts';
import type { Registry } from '../fixtures/registry.ts';
import { writeNodeFiles } from '../run/node-files.ts';
import { stageFolder } from '../run/stage.ts';

export interface CrashImage extends TestImage {
  /** What CRI pulls it by */
  readonly name: string;
}

/** Two images with two layers in common, of files of many sizes: some small enough to be written late, some large. */
export function crashImages(): readonly [CrashImage, CrashImage] {
  return [
    named('docker.io/crash/first:1', firstLayers()),
    named('docker.io/crash/second:1', [...sharedLayers(), layerOf('second', 80, 20_000)]),
  ];
}

/** The first of them with its layers packed otherwise: the same image under another manifest. */
export function repackedImage(): CrashImage {
  return { ...buildImage(firstLayers(), undefined, 1), name: 'docker.io/crash/repacked:1' };
}

function firstLayers(): readonly (readonly EntrySpec[])[] {
  return [...sharedLayers(), layerOf('first', 3, 700_000), layerOf('top', 40, 100)];
}

function sharedLayers(): readonly (readonly EntrySpec[])[] {
  return [layerOf('base', 60, 30_000), layerOf('tools', 120, 3000)];
}

function named(name: string, layers: readonly (readonly EntrySpec[])[]): CrashImage {
  return { ...buildImage(layers), name };
}

function layerOf(name: string, files: number, size: number): EntrySpec[] {
  const entries: EntrySpec[] = [
    { name: `${name}/`, type: '5', mode: 0o755 },
    { name: `${name}/link`, type: '2', linkName: 'file-0' },
    { name: `etc/${name}.conf`, data: `${name}\n` },
  ];
  for (let at = 0; at < files; at++) {
    entries.push({ name: `${name}/file-${at}`, data: content(`${name}-${at}`, 1 + ((at * 7919) % size)), mode: 0o644 });
  }
  return entries;
}

/** Bytes that do not compress, the same in each run. */
function content(seed: string, length: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at * 64 < length; at++) parts.push(createHash('sha512').update(`${seed} ${at}`).digest());
  return Buffer.concat(parts).subarray(0, length);
}

/** A registry of the test's own, which all names of the stage are sent to. */
export async function serveImages(images: readonly CrashImage[]): Promise<Registry> {
  const storage = join(stageFolder(), `crash-registry-${process.pid}`);
  mkdirSync(storage, { recursive: true });
  const registry = await startRegistry({ storage });
  for (const image of images) await push(registry, image);
  writeNodeFiles(registry.address);
  return registry;
}

/** Leaves a registry's folder with the images in it. */
export async function fillRegistry(storage: string, images: readonly CrashImage[]): Promise<void> {
  mkdirSync(storage, { recursive: true });
  await using registry = await startRegistry({ storage });
  for (const image of images) await push(registry, image);
}

async function push(registry: Registry, image: CrashImage): Promise<void> {
  const [repository = '', tag = ''] = image.name.split(':');
  for (const blob of [image.config, ...image.layers.map((layer) => layer.blob)])
    await pushBlob(registry, repository, blob);
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  await pushManifest(registry, repository, { reference: tag, mediaType, content: image.manifest });
}
