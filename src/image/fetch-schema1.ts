import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { PassThrough, Readable } from 'node:stream';
import type { Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { digestOf } from './digest.ts';
import type { FetchedManifest } from './fetch-image.ts';
import { parseManifest } from './manifest.ts';
import type { ImageManifest } from './manifest.ts';
import { streamBlob } from './registry/blob-stream.ts';
import { convertSchema1 } from './schema1.ts';
import type { MeasuredLayer, Schema1Manifest } from './schema1.ts';

/** No layer is larger; a registry that does not say how long a blob is must not fill the disk. bytes */
const maxLayerSize = 64 * 1024 ** 3;

export interface ConvertedImage {
  readonly image: FetchedManifest<ImageManifest>;
  readonly config: Buffer;
}

/**
 * Turns a schema 1 image into a schema 2 one. The format names neither sizes nor diffIDs, so each layer is read once
 * to measure it, and a second time to unpack it: nothing is kept meanwhile.
 */
export async function fetchSchema1(
  fetched: FetchedManifest<Schema1Manifest>,
  signal: AbortSignal,
  log: Logger,
): Promise<ConvertedImage> {
  const blobs = fetched.manifest.steps.flatMap(({ blob }) => (blob === undefined ? [] : [blob]));
  const measured = new Map<Digest, MeasuredLayer>();
  for (const digest of new Set(blobs)) measured.set(digest, await measure(digest, fetched, signal, log));
  const layers = blobs.flatMap((digest) => measured.get(digest) ?? []);
  const { config, data } = convertSchema1(fetched.manifest, layers);
  const manifest = parseManifest(data, '');
  if (manifest.kind !== 'image') throw new CrioError('internal', 'convert schema 1 manifest: no image');
  // The original stays beside it, so that a name with its digest is found.
  const lists = [...fetched.lists, { digest: fetched.digest, data: fetched.data }];
  return { image: { manifest, data, digest: digestOf(data), lists, places: fetched.places }, config };
}

async function measure(
  digest: Digest,
  fetched: FetchedManifest<Schema1Manifest>,
  signal: AbortSignal,
  log: Logger,
): Promise<MeasuredLayer> {
  let size = 0;
  const compressed = createHash('sha256');
  const plain = createHash('sha256');
  const stream = streamBlob({
    digest,
    size: undefined,
    maxSize: maxLayerSize,
    places: fetched.places,
    signal,
    log,
    onBytes: () => {},
    onEndpoint: () => {},
  });
  const first = await stream.next();
  const head = first.done === true ? Buffer.alloc(0) : first.value;
  async function* count() {
    yield head;
    yield* stream;
  }
  const counted = async function* () {
    for await (const chunk of count()) {
      size += chunk.length;
      compressed.update(chunk);
      yield chunk;
    }
  };
  await pipeline(Readable.from(counted()), decompressorFor(head), async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) plain.update(chunk);
  });
  const actual = `sha256:${compressed.digest('hex')}`;
  if (actual !== digest) throw new CrioError('invalid', `verify layer: digest is ${actual}, expected ${digest}`);
  return { digest, size, diffId: `sha256:${plain.digest('hex')}` };
}

function decompressorFor(head: Buffer): Transform {
  const chunkSize = 256 * 1024;
  if (head[0] === 0x1f && head[1] === 0x8b) return createGunzip({ chunkSize });
  if (head.subarray(0, 4).equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]))) return createZstdDecompress({ chunkSize });
  return new PassThrough();
}
