import { createHash } from 'node:crypto';
import { CrioError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { bringOnce } from '../bring-once.ts';
import type { RunningBlobs } from '../bring-once.ts';
import type { FetchedManifest } from '../fetch-image.ts';
import type { ArtifactManifest, Descriptor } from '../manifest.ts';
import type { SignaturesByDigest } from '../policy/stored-signatures.ts';
import type { LayerTracker, PullTracker } from '../pull-progress.ts';
import { useBlob } from '../registry/use-blob.ts';
import { sideBySide } from '../side-by-side.ts';
import type { ArtifactStore } from './artifact-store.ts';

export interface PullArtifactOptions {
  readonly name: string;
  readonly fetched: FetchedManifest<ArtifactManifest>;
  /** Kept for the check before each use. */
  readonly signatures: SignaturesByDigest;
  readonly store: ArtifactStore;
  readonly running: RunningBlobs;
  /** Most bytes of all its blobs; undefined for no limit. */
  readonly maxBytes: number | undefined;
  readonly tracker: PullTracker;
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** Blobs of one pull that are downloaded at a time. */
const parallelBlobs = 4;

/** Stores an artifact's blobs as they are, then names it. Returns its id. What a pull that fails has stored goes. */
export async function pullArtifact(options: PullArtifactOptions): Promise<string> {
  const { fetched, store, tracker } = options;
  const { manifest, digest, data } = fetched;
  const blobs = [manifest.config, ...manifest.layers];
  const bytes = blobs.reduce((sum, blob) => sum + blob.size, 0);
  if (options.maxBytes !== undefined && bytes > options.maxBytes)
    throw new CrioError('resource-exhausted', `it has ${bytes} bytes, more than the ${options.maxBytes} allowed here`);
  tracker.setPhase('layers');
  using held = await store.begin([digest, ...blobs.map((blob) => blob.digest)]);
  try {
    await pullBlobs(blobs, options);
    tracker.setPhase('committing');
    await store.put(options.name, { digest, data, mediaType: manifest.mediaType }, options.signatures);
  } catch (error) {
    await held.giveUp();
    throw error;
  }
  return digest.slice(digest.indexOf(':') + 1);
}

async function pullBlobs(blobs: readonly Descriptor[], options: PullArtifactOptions): Promise<void> {
  const { store, running, signal } = options;
  const trackers = options.tracker.setLayers(blobs);
  await sideBySide(blobs.entries(), { atOnce: parallelBlobs, signal }, async ([index, blob], either) => {
    const tracker = trackers[index];
    if (tracker === undefined) return;
    await bringOnce({
      id: blob.digest,
      running,
      tracker,
      signal: either,
      isThere: () => store.hasBlob(blob.digest, blob.size),
      bring: (workSignal) => streamToStore(blob, tracker, { ...options, signal: workSignal }),
    });
  });
}

async function streamToStore(blob: Descriptor, tracker: LayerTracker, options: PullArtifactOptions): Promise<void> {
  const { store, fetched, signal, log } = options;
  tracker.setPhase('downloading');
  const source = {
    digest: blob.digest,
    size: blob.size,
    places: fetched.places,
    signal,
    log,
    ...tracker.callbacks,
  };
  await useBlob(source, (received) =>
    store.addBlob(blob.digest, async (append) => {
      const algorithm = blob.digest.slice(0, blob.digest.indexOf(':'));
      const hash = createHash(algorithm);
      for await (const chunk of received) {
        hash.update(chunk);
        await append(chunk);
        tracker.addUnpacked(chunk.length);
      }
      const actual = `${algorithm}:${hash.digest('hex')}`;
      if (actual !== blob.digest) throw new CrioError('invalid', `blob has digest ${actual}, expected ${blob.digest}`);
    }),
  );
}
