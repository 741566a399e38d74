import { createHash } from 'node:crypto';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { CrioError } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { ImageRecord, LayerRecord, NewImage, Store, UnpackOptions } from '../../storage/store.ts';
import { digestOf } from '../digest.ts';

/** A store in memory that keeps state and checks digests as the real one does; for unit tests. */
export interface FakeStore extends Store {
  readonly layerContents: ReadonlyMap<string, Buffer>;
  /** Blobs that were unpacked, in order. */
  readonly unpacked: readonly Digest[];
  /** Ids of layers that pulls gave up, in order. */
  readonly discarded: readonly string[];
}

export function createFakeStore(graphRoot: string): FakeStore {
  const records = new Map<string, ImageRecord>();
  const bigData = new Map<string, Buffer>();
  const layers = new Map<string, LayerRecord>();
  const layerContents = new Map<string, Buffer>();
  const unpacked: Digest[] = [];
  const discarded: string[] = [];
  let list: readonly ImageRecord[] = [];
  const save = (record: ImageRecord) => {
    records.set(record.id, record);
    list = [...records.values()];
    return record;
  };
  const take = (names: readonly string[], id: string) => {
    for (const other of records.values()) {
      if (other.id !== id && other.names.some((name) => names.includes(name))) {
        save({ ...other, names: other.names.filter((name) => !names.includes(name)) });
      }
    }
  };
  const unused = () => Promise.reject(new Error('not part of the fake'));
  return {
    graphRoot,
    runRoot: '/fake-run',
    imageStore: '',
    driverName: 'overlay',
    layerContents,
    unpacked,
    discarded,
    images: {
      list: () => Promise.resolve(list),
      find: (id) => Promise.resolve(records.get(id)),
      damaged: () => Promise.resolve([]),
      readBigData: (id, key) => Promise.resolve(bigData.get(`${id} ${key}`)),
      size: () => Promise.resolve(1),
      put(image) {
        if (image.topLayer !== undefined && !layers.has(image.topLayer))
          return Promise.reject(new CrioError('failed-precondition', `layer "${image.topLayer}" is not in storage`));
        for (const { key, data } of image.bigData) bigData.set(`${image.id} ${key}`, Buffer.from(data));
        take(image.addNames, image.id);
        return Promise.resolve(save(mergeRecord(records.get(image.id), image)));
      },
      changeNames(id, change) {
        const record = records.get(id);
        const names = change(record?.names ?? []);
        if (record === undefined || names.length === 0) return Promise.resolve(false);
        save({ ...record, names, namesHistory: [...new Set([...names, ...record.namesHistory])] });
        return Promise.resolve(true);
      },
      delete(id, left = () => []) {
        if (left(records.get(id)?.names ?? []).length > 0) return Promise.resolve(false);
        records.delete(id);
        list = [...records.values()];
        return Promise.resolve(true);
      },
    },
    layers: {
      find: (id) => Promise.resolve(layers.get(id)),
      idFor,
      async unpack(options) {
        const record = await unpackFake(options, layerContents);
        unpacked.push(options.blobDigest ?? options.diffId);
        layers.set(record.id, record);
        return record;
      },
      sync: () => Promise.resolve(),
      hold: () => ({ [Symbol.dispose]: () => undefined }),
      discard(ids) {
        discarded.push(...ids);
        return Promise.resolve();
      },
      usage: () => Promise.resolve({ imageRoot: { bytes: 7, inodes: 3 }, graphRoot: { bytes: 0, inodes: 0 } }),
      mountReadOnly: unused,
    },
    containers: {
      list: unused,
      find: unused,
      create: unused,
      setMetadata: unused,
      delete: unused,
      mount: unused,
      unmount: unused,
      directory: String,
      runDirectory: String,
      rootWasLost: unused,
      upperDirectory: String,
      mountPoint: String,
    },
    health: { check: unused, repair: unused, walk: unused, damageOf: () => undefined },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function idFor(parent: string | undefined, diffId: Digest): string {
  const hex = diffId.slice('sha256:'.length);
  return parent === undefined ? hex : createHash('sha256').update(`${parent}+${hex}`).digest('hex');
}

async function unpackFake(options: UnpackOptions, contents: Map<string, Buffer>): Promise<LayerRecord> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of options.blob) {
    options.signal.throwIfAborted();
    chunks.push(Buffer.from(chunk));
  }
  const blob = Buffer.concat(chunks);
  if (options.blobDigest !== undefined && digestOf(blob) !== options.blobDigest)
    throw new CrioError('invalid', `blob has digest ${digestOf(blob)}, expected ${options.blobDigest}`);
  const tar = blob[0] === 0x1f ? gunzipSync(blob) : blob[0] === 0x28 ? zstdDecompressSync(blob) : blob;
  if (digestOf(tar) !== options.diffId)
    throw new CrioError('invalid', `layer has diffID ${digestOf(tar)}, expected ${options.diffId}`);
  const id = idFor(options.parent, options.diffId);
  contents.set(id, tar);
  return {
    id,
    parent: options.parent,
    diffDigest: options.diffId,
    diffSize: tar.length,
    compressedDigest: options.blobDigest,
    compressedSize: blob.length,
  };
}

function mergeRecord(before: ImageRecord | undefined, image: NewImage): ImageRecord {
  const names = [...new Set([...image.addNames, ...(before?.names ?? [])])];
  const keys = [...new Set([...(before?.bigDataNames ?? []), ...image.bigData.map(({ key }) => key)])];
  const digests = new Map([
    ...(before?.bigDataDigests ?? []),
    ...image.bigData.map(({ key, digest }) => [key, digest] as const),
  ]);
  const digest = before?.digest ?? image.digest;
  return {
    id: image.id,
    digest,
    names,
    namesHistory: [...new Set([...names, ...(before?.namesHistory ?? [])])],
    topLayer: image.topLayer,
    metadata: image.metadata,
    bigDataNames: keys,
    bigDataSizes: new Map(image.bigData.map(({ key, data }) => [key, data.length])),
    bigDataDigests: digests,
    createdNs: image.createdNs,
    digests: [
      ...new Set([digest, ...[...digests].filter(([key]) => key.startsWith('manifest')).map(([, value]) => value)]),
    ],
  };
}
