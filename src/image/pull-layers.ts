import type { Digest } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import type { LayerStore } from '../storage/store.ts';
import { decryptLayer } from './encryption/encrypted-layer.ts';
import type { LayerKey } from './encryption/encrypted-layer.ts';
import type { JoinedWork } from './joined-work.ts';
import type { Descriptor } from './manifest.ts';
import type { LayerTracker } from './pull-progress.ts';
import type { Place } from './registry/places.ts';
import { useBlob } from './registry/use-blob.ts';

export interface PullLayersOptions {
  readonly layers: readonly Descriptor[];
  readonly diffIds: readonly Digest[];
  readonly trackers: readonly LayerTracker[];
  readonly places: readonly Place[];
  /** Of each encrypted layer, by its digest. */
  readonly layerKeys: ReadonlyMap<Digest, LayerKey>;
  readonly store: LayerStore;
  /** Layers that any pull is working on, by id. */
  readonly running: JoinedWork<void>;
  /** Of those layers, the tracker of the pull that brings it. */
  readonly leaders: Map<string, LayerTracker>;
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
  const plan = planLayers(options);
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const queue = plan.values();
  const work = async () => {
    for (const layer of queue) {
      signal.throwIfAborted();
      await pullLayer(layer, { ...options, signal });
    }
  };
  const workers = Array.from({ length: Math.min(parallelLayers, plan.length) }, work);
  for (const worker of workers) worker.catch((error: unknown) => failed.abort(error));
  // All must have ended before the caller may give up what they write to.
  const results = await Promise.allSettled(workers);
  options.signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
  const rejected = results.find((result) => result.status === 'rejected');
  if (rejected !== undefined) throw rejected.reason;
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

async function pullLayer(layer: PlannedLayer, options: PullLayersOptions): Promise<void> {
  const { store, running, leaders, signal } = options;
  for (;;) {
    if ((await store.find(layer.id)) !== undefined) {
      layer.tracker.setPhase('exists');
      return;
    }
    const { isOwner, result } = running.join(layer.id, signal, (workSignal) => unpackLayer(layer, options, workSignal));
    if (!isOwner) layer.tracker.setJoined(leaders.get(layer.id));
    try {
      await result;
      layer.tracker.setPhase('done');
      return;
    } catch (error) {
      // The other pull may have failed for a reason of its own, its credentials or its mirror: try it ourselves.
      if (isOwner || signal.aborted) throw error;
    }
  }
}

/** `signal` ends when nobody waits for the layer any more. */
async function unpackLayer(layer: PlannedLayer, options: PullLayersOptions, signal: AbortSignal): Promise<void> {
  const { leaders } = options;
  leaders.set(layer.id, layer.tracker);
  try {
    await streamLayer(layer, options, signal);
  } finally {
    if (leaders.get(layer.id) === layer.tracker) leaders.delete(layer.id);
  }
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
    onBytes: (count: number) => tracker.addBytes(count),
    onEndpoint: (label: string) => tracker.setEndpoint(label),
    onRestart: () => tracker.restart(),
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
