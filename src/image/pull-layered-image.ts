import { CrioError, kindOf, messageOf } from '../base/errors.ts';
import type { Digest, ImageId } from '../base/ids.ts';
import { systemClock } from '../base/clock.ts';
import type { NewImage, Store } from '../storage/store.ts';
import { digestOf } from './digest.ts';
import { isEncrypted, openLayerKeys } from './encryption/encrypted-layer.ts';
import type { LayerKey } from './encryption/encrypted-layer.ts';
import { fetchConfig } from './fetch-image.ts';
import type { ImageDocument } from './image-config.ts';
import { encodeSignatures, mergeSignatures, readStoredSignatures } from './policy/stored-signatures.ts';
import type { SignaturesByDigest } from './policy/stored-signatures.ts';
import { pullLayers } from './pull-layers.ts';
import { formatReference } from './reference.ts';
import type { FetchedImage, PullDependencies, PullRequest, Target } from './pull-request.ts';

/** Brings the layers of an image, then adds them and its record. What a pull that fails has added goes. */
export async function pullLayeredImage(
  dependencies: PullDependencies,
  request: PullRequest,
  { image, config: known, target }: { readonly image: FetchedImage; readonly config?: Buffer; readonly target: Target },
): Promise<ImageId> {
  const { store } = dependencies;
  const { call, tracker } = request;
  const { signal } = call;
  const id = imageIdOf(image);
  call.stage('image config');
  const config = await fetchConfig(
    image,
    async () => known ?? (await store.images.readBigData(id, image.manifest.config.digest)),
    signal,
  );
  const layers = layerIds(store, image, config.document);
  let isCommitting = false;
  const bring = (): Promise<string | undefined> => {
    call.stage('image layers');
    return bringLayers(dependencies, request, image, config.document);
  };
  const commit = async (topLayer: string | undefined): Promise<void> => {
    call.stage('image commit');
    tracker.setPhase('committing');
    isCommitting = true;
    await store.layers.sync(topLayer);
    const signatures = await withStoredSignatures(dependencies, id, target.signatures);
    await store.images.put(newImage({ id, image, config, topLayer, target: { ...target, signatures } }));
  };
  using held = store.layers.hold(layers);
  try {
    await commitAgain(bring, commit, signal);
  } catch (error) {
    held[Symbol.dispose]();
    // What was unpacked would fill the disk, or keep its files open, until the next try, which may never come; and
    // nobody would see layers in the index that no image has.
    if (isCommitting || isDiskError(error)) await store.layers.discard(layers);
    throw error;
  }
  return id;
}

const maxCommits = 5;

/**
 * Removals, ours and podman's, may take a layer that was there when we looked, again and again on a busy store. What a
 * registry answered would be the same again.
 */
async function commitAgain<T>(
  bring: () => Promise<T>,
  commit: (brought: T) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  for (let count = 1; ; count++) {
    const brought = await bring();
    try {
      await commit(brought);
      return;
    } catch (error) {
      if (count === maxCommits || signal.aborted || kindOf(error) !== 'failed-precondition') throw error;
    }
  }
}

/** Errors of the worker that unpacks come as text. */
function isDiskError(error: unknown): boolean {
  return /\b(?:ENOSPC|EDQUOT|EROFS|EIO|EUCLEAN|EBADMSG|ESTALE|EMFILE|ENFILE)\b/.test(messageOf(error));
}

/** Those of this pull, and those that the image has already under this or another name. */
async function withStoredSignatures(
  { store, log }: PullDependencies,
  id: ImageId,
  signatures: SignaturesByDigest,
): Promise<SignaturesByDigest> {
  const known = await store.images.find(id);
  if (known === undefined) return signatures;
  try {
    return mergeSignatures(signatures, await readStoredSignatures(store.images, known));
  } catch (error) {
    log.warn(`Read stored signatures of image ${id}, they are replaced`, error);
    return signatures;
  }
}

async function bringLayers(
  dependencies: PullDependencies,
  request: PullRequest,
  image: FetchedImage,
  document: ImageDocument,
): Promise<string | undefined> {
  const { store, running, log } = dependencies;
  const { tracker, call } = request;
  tracker.setPhase('layers');
  const layerKeys = await layerKeysOf(dependencies, image);
  return pullLayers({
    layers: image.manifest.layers,
    diffIds: document.diffIds,
    trackers: tracker.setLayers(image.manifest.layers),
    places: image.places,
    layerKeys,
    store: store.layers,
    running,
    signal: call.signal,
    log,
  });
}

async function layerKeysOf(
  dependencies: PullDependencies,
  { manifest }: FetchedImage,
): Promise<ReadonlyMap<Digest, LayerKey>> {
  const encrypted = manifest.layers.filter(isEncrypted);
  if (encrypted.length === 0) return new Map();
  return openLayerKeys(encrypted, await dependencies.decryptionKeys());
}

/** Base first. */
function layerIds(store: Store, image: FetchedImage, document: ImageDocument): readonly string[] {
  const ids: string[] = [];
  for (const diffId of document.diffIds.slice(0, image.manifest.layers.length))
    ids.push(store.layers.idFor(ids.at(-1), diffId));
  return ids;
}

/** The id is the config's digest, without its algorithm: that must be sha256. */
function imageIdOf(image: FetchedImage): ImageId {
  const { digest } = image.manifest.config;
  if (!digest.startsWith('sha256:')) throw new CrioError('invalid', `config digest ${digest} is not a sha256 digest`);
  return digest.slice('sha256:'.length);
}

/** The record as the format has it: storage-format 6 names the big data and its order. */
function newImage(parts: {
  readonly id: ImageId;
  readonly image: FetchedImage;
  readonly config: { readonly data: Buffer; readonly document: ImageDocument };
  readonly topLayer: string | undefined;
  readonly target: Target;
}): NewImage {
  const { id, image, config, topLayer, target } = parts;
  const signatures = encodeSignatures(target.signatures);
  return {
    id,
    digest: image.digest,
    addNames: [formatReference(target.reference)],
    topLayer,
    createdNs: config.document.createdNs ?? systemClock.nowNs(),
    metadata: signatures.metadata,
    bigData: [
      { key: image.manifest.config.digest, data: config.data, digest: image.manifest.config.digest },
      ...image.lists.map(({ digest, data }) => ({ key: `manifest-${digest}`, data, digest })),
      { key: `manifest-${image.digest}`, data: image.data, digest: image.digest },
      { key: 'manifest', data: image.data, digest: image.digest },
      ...signatures.bigData.map(({ key, data }) => ({ key, data, digest: digestOf(data) })),
    ],
  };
}
