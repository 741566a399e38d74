import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { digestOf } from './digest.ts';
import type { FetchedManifest } from './fetch-image.ts';
import { parseManifest } from './manifest.ts';
import type { ImageManifest } from './manifest.ts';
import { measureLayer } from './measure-layer.ts';
import type { LayerTracker, PullTracker } from './pull-progress.ts';
import { useBlob } from './registry/use-blob.ts';
import { convertSchema1, schema1LayerType } from './schema1.ts';
import type { MeasuredLayer, Schema1Manifest } from './schema1.ts';

/** No layer is larger, compressed or not: a registry that does not say how long a blob is must not keep us for ever. bytes */
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
  options: { readonly tracker: PullTracker; readonly signal: AbortSignal; readonly log: Logger },
): Promise<ConvertedImage> {
  const blobs = fetched.manifest.steps.flatMap(({ blob }) => (blob === undefined ? [] : [blob]));
  const { tracker } = options;
  tracker.setPhase('layers');
  const digests = [...new Set(blobs)];
  const trackers = tracker.setLayers(digests.map((digest) => ({ digest, mediaType: schema1LayerType, size: 0 })));
  const measured = new Map<Digest, MeasuredLayer>();
  for (const [index, digest] of digests.entries()) {
    const layer = trackers[index];
    if (layer !== undefined) measured.set(digest, await measure(digest, layer, { ...options, fetched }));
  }
  const layers = blobs.flatMap((digest) => measured.get(digest) ?? []);
  const { config, data } = convertSchema1(fetched.manifest, layers);
  const manifest = parseManifest(data, '');
  if (manifest.kind !== 'image') throw new CrioError('internal', 'convert schema 1 manifest: no image');
  // The original stays beside it, so that a name with its digest is found.
  const lists = [...fetched.lists, { digest: fetched.digest, data: fetched.data }];
  return { image: { manifest, data, digest: digestOf(data), lists, places: fetched.places }, config };
}

/** It is not counted as done: that is for the second time. */
async function measure(
  digest: Digest,
  tracker: LayerTracker,
  { fetched, signal, log }: { fetched: FetchedManifest; signal: AbortSignal; log: Logger },
): Promise<MeasuredLayer> {
  tracker.setPhase('downloading');
  const source = {
    digest,
    size: undefined,
    maxSize: maxLayerSize,
    places: fetched.places,
    signal,
    log,
    ...tracker.callbacks,
  };
  const layer = await useBlob(source, (blob) => measureLayer(blob, { digest, maxPlainSize: maxLayerSize }));
  tracker.setPhase('waiting');
  return layer;
}
