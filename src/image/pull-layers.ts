import type { Digest } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import type { LayerStore } from '../storage/store.ts';
import { bringOnce } from './bring-once.ts';
import type { RunningBlobs } from './bring-once.ts';
import { decryptLayer } from './encryption/encrypted-layer.ts';
import type { LayerKey } from './encryption/encrypted-layer.ts';
import type { Descriptor } from './manifest.ts';
import type { LayerTracker } from './pull-progress.ts';
import type { Place } from './registry/places.ts';
import { useBlob } from './registry/use-blob.ts';
import { sideBySide } from './side-by-side.ts';

export interface PullLayersOptions {
  readonly layers: readonly Descriptor[];
  readonly diffIds: readonly Digest[];
  readonly trackers: readonly LayerTracker[];
  readonly places: readonly Place[];
  /** Of each encrypted layer, by its digest. */
  readonly layerKeys: ReadonlyMap<Digest, LayerKey>;
  readonly store: LayerStore;
  readonly running: RunningBlobs;
  readonly signal: AbortSignal;
  readonly log: Logger;
}

interface PlannedLayer {
  readonly id: string;
  readonly parent: string | undefined;
  readonly diffId: Digest;
  readonly blob: Descriptor;
  readonly tracker: LayerTracker;
}

/** Layers of one pull that are downloaded and unpacked at a time. They start in order, so a parent is never behind its child. */
const parallelLayers = 4;

/** Brings all layers into the store and returns the id of the top one; undefined for an image without layers. */
export async function pullLayers(options: PullLayersOptions): Promise<string | undefined> {
  const { store, running, signal } = options;
  const plan = planLayers(options);
  // All must have ended before the caller may give up what they write to.
  await sideBySide(plan, { atOnce: parallelLayers, signal }, (layer, either) =>
    bringOnce({
      id: layer.id,
      running,
      tracker: layer.tracker,
      signal: either,
      isThere: async () => (await store.find(layer.id)) !== undefined,
      bring: (workSignal) => streamLayer(layer, options, workSignal),
    }),
  );
  return plan.at(-1)?.id;
}

function planLayers(options: PullLayersOptions): readonly PlannedLayer[] {
  let parent: string | undefined;
  return options.layers.flatMap((blob, index) => {
    const diffId = options.diffIds[index];
    const tracker = options.trackers[index];
    if (diffId === undefined || tracker === undefined) return [];
    const layer = { id: options.store.idFor(parent, diffId), parent, diffId, blob, tracker };
    parent = layer.id;
    return [layer];
  });
}

async function streamLayer(layer: PlannedLayer, options: PullLayersOptions, signal: AbortSignal): Promise<void> {
  const { tracker, blob } = layer;
  tracker.setPhase('downloading');
  const key = options.layerKeys.get(blob.digest);
  const source = {
    digest: blob.digest,
    size: blob.size,
    places: options.places,
    signal,
    log: options.log,
    releasesPieces: true,
    ...tracker.callbacks,
  };
  await useBlob(source, async (received) => {
    await options.store.unpack({
      parent: layer.parent,
      diffId: layer.diffId,
      // Of an encrypted layer, `decryptLayer` checks both.
      blobDigest: key === undefined ? blob.digest : undefined,
      blobSize: key === undefined ? blob.size : undefined,
      blob: key === undefined ? received : decryptLayer(received, key, blob.digest),
      onUnpacked: (count) => tracker.addUnpacked(count),
      signal,
    });
  });
}
