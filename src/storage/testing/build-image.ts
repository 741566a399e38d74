import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { NewImage, Store } from '../store.ts';
import { buildTar } from './build-tar.ts';
import type { EntrySpec } from './build-tar.ts';

/** An image in memory, as a registry would serve it. */
export interface TestImage {
  readonly id: string;
  readonly digest: string;
  readonly manifest: Buffer;
  readonly config: Buffer;
  readonly layers: readonly TestLayer[];
}

export interface TestLayer {
  readonly blob: Buffer;
  readonly blobDigest: string;
  readonly diffId: string;
  readonly tar: Buffer;
}

const digestOf = (data: Uint8Array) => `sha256:${createHash('sha256').update(data).digest('hex')}`;

export function buildImage(
  layerEntries: readonly (readonly EntrySpec[])[],
  cmd: readonly string[] = ['/bin/sh'],
  compressionLevel = 6,
): TestImage {
  const layers = layerEntries.map((entries) => {
    const tar = buildTar(entries);
    const blob = gzipSync(tar, { level: compressionLevel });
    return { blob, blobDigest: digestOf(blob), diffId: digestOf(tar), tar };
  });
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      created: '2023-11-14T22:13:20Z',
      config: { Cmd: cmd },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      history: layers.map(() => ({ created_by: 'test' })),
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: descriptor('application/vnd.oci.image.config.v1+json', config),
      layers: layers.map((layer) => descriptor('application/vnd.oci.image.layer.v1.tar+gzip', layer.blob)),
    }),
  );
  return { id: digestOf(config).slice('sha256:'.length), digest: digestOf(manifest), manifest, config, layers };
}

function descriptor(mediaType: string, data: Buffer) {
  return { mediaType, digest: digestOf(data), size: data.length };
}

/** Writes an OCI layout, which skopeo and podman read. */
export function writeLayout(image: TestImage, folder: string): void {
  const blobs = `${folder}/blobs/sha256`;
  mkdirSync(blobs, { recursive: true });
  for (const data of [image.config, image.manifest, ...image.layers.map((layer) => layer.blob)]) {
    writeFileSync(`${blobs}/${digestOf(data).slice('sha256:'.length)}`, data);
  }
  const manifests = [descriptor('application/vnd.oci.image.manifest.v1+json', image.manifest)];
  writeFileSync(`${folder}/index.json`, JSON.stringify({ schemaVersion: 2, manifests }));
  writeFileSync(`${folder}/oci-layout`, '{"imageLayoutVersion":"1.0.0"}');
}

/** Ids of the layers, base first. */
export function layerIds(store: Store, image: TestImage): string[] {
  const ids: string[] = [];
  for (const { diffId } of image.layers) ids.push(store.layers.idFor(ids.at(-1), diffId));
  return ids;
}

/** Unpacks all layers at once, as a pull does, and returns their ids, base first. They are in no index yet. */
export async function unpackLayers(store: Store, image: TestImage): Promise<readonly string[]> {
  const ids = layerIds(store, image);
  const signal = new AbortController().signal;
  await Promise.all(
    image.layers.map((layer, at) =>
      store.layers.unpack({
        parent: ids[at - 1],
        diffId: layer.diffId,
        blobDigest: layer.blobDigest,
        blobSize: layer.blob.length,
        blob: pieces(layer.blob),
        signal,
      }),
    ),
  );
  return ids;
}

/** Stores an image as a pull does: all layers at once, then the record. */
export async function storeImage(store: Store, image: TestImage, name: string): Promise<void> {
  const ids = await unpackLayers(store, image);
  await store.layers.sync(ids.at(-1));
  await store.images.put(newImage(image, ids.at(-1), name));
}

export function newImage(image: TestImage, topLayer: string | undefined, name: string): NewImage {
  return {
    id: image.id,
    digest: image.digest,
    addNames: [name],
    topLayer,
    createdNs: 1_700_000_000_000_000_000n,
    metadata: '{}',
    bigData: [
      { key: `sha256:${image.id}`, data: image.config, digest: `sha256:${image.id}` },
      { key: `manifest-${image.digest}`, data: image.manifest, digest: image.digest },
      { key: 'manifest', data: image.manifest, digest: image.digest },
    ],
  };
}

export async function* pieces(data: Buffer, size = 10_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}
