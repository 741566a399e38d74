import { createHash } from 'node:crypto';
import { CrioError } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { FetchedManifest } from '../fetch-image.ts';
import type { ArtifactManifest, Descriptor } from '../manifest.ts';
import type { SignaturesByDigest } from '../policy/stored-signatures.ts';
import type { LayerTracker, PullTracker } from '../pull-progress.ts';
import { streamBlob } from '../registry/blob-stream.ts';
import type { ArtifactStore } from './artifact-store.ts';

export interface PullArtifactOptions {
  readonly name: string;
  readonly fetched: FetchedManifest<ArtifactManifest>;
  /** Kept for the check before each use. */
  readonly signatures: SignaturesByDigest;
  readonly store: ArtifactStore;
  /** Most bytes of all its blobs; undefined for no limit. */
  readonly maxBytes: number | undefined;
  readonly tracker: PullTracker;
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** Stores an artifact's blobs as they are, then names it. Returns its id. */
export async function pullArtifact(options: PullArtifactOptions): Promise<string> {
  const { fetched, store, tracker } = options;
  const { manifest, digest, data } = fetched;
  const blobs = [manifest.config, ...manifest.layers];
  const bytes = blobs.reduce((sum, blob) => sum + blob.size, 0);
  if (options.maxBytes !== undefined && bytes > options.maxBytes)
    throw new CrioError('resource-exhausted', `it has ${bytes} bytes, more than the ${options.maxBytes} allowed here`);
  tracker.setPhase('layers');
  using _blobs = store.hold([digest, ...blobs.map((blob) => blob.digest)]);
  const trackers = tracker.setLayers(blobs);
  for (const [index, blob] of blobs.entries()) {
    const layer = trackers[index];
    if (layer !== undefined) await pullBlob(blob, layer, options);
  }
  tracker.setPhase('committing');
  await store.put(options.name, { digest, data, mediaType: manifest.mediaType }, options.signatures);
  return digest.slice(digest.indexOf(':') + 1);
}

async function pullBlob(blob: Descriptor, tracker: LayerTracker, options: PullArtifactOptions): Promise<void> {
  const { store, fetched, signal, log } = options;
  if (await store.hasBlob(blob.digest, blob.size)) {
    tracker.setPhase('exists');
    return;
  }
  tracker.setPhase('downloading');
  await store.addBlob(blob.digest, async (append) => {
    const algorithm = blob.digest.slice(0, blob.digest.indexOf(':'));
    const hash = createHash(algorithm);
    const chunks = streamBlob({
      digest: blob.digest,
      size: blob.size,
      places: fetched.places,
      signal,
      log,
      onBytes: (count) => tracker.addBytes(count),
      onEndpoint: (label) => tracker.setEndpoint(label),
    });
    for await (const chunk of chunks) {
      hash.update(chunk);
      await append(chunk);
      tracker.addUnpacked(chunk.length);
    }
    const actual = `${algorithm}:${hash.digest('hex')}`;
    if (actual !== blob.digest) throw new CrioError('invalid', `blob has digest ${actual}, expected ${blob.digest}`);
  });
  tracker.setPhase('done');
}
