import type { KeyObject } from 'node:crypto';
import type { Call } from '../base/call.ts';
import { CrioError, kindOf, messageOf, wrap } from '../base/errors.ts';
import type { Digest, ImageId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { systemClock } from '../base/clock.ts';
import type { NewImage, Store } from '../storage/store.ts';
import type { RunningBlobs } from './bring-once.ts';
import { pullArtifact } from './artifacts/pull-artifact.ts';
import type { ArtifactCatalog } from './artifacts/artifact-catalog.ts';
import { digestOf } from './digest.ts';
import { isEncrypted, openLayerKeys } from './encryption/encrypted-layer.ts';
import type { LayerKey } from './encryption/encrypted-layer.ts';
import { fetchConfig, fetchManifest } from './fetch-image.ts';
import type { FetchedManifest } from './fetch-image.ts';
import type { ImageDocument } from './image-config.ts';
import { checkPolicy, checkRejected } from './policy/decide.ts';
import type { ImageEvidence } from './policy/decide.ts';
import type { Policy } from './policy/policy-file.ts';
import { encodeSignatures, mergeSignatures, readStoredSignatures } from './policy/stored-signatures.ts';
import type { SignaturesByDigest } from './policy/stored-signatures.ts';
import { fetchSchema1 } from './fetch-schema1.ts';
import type { ArtifactManifest, ImageManifest } from './manifest.ts';
import { pullLayers } from './pull-layers.ts';
import type { PullTracker } from './pull-progress.ts';
import { formatReference } from './reference.ts';
import type { Reference } from './reference.ts';
import type { Place } from './registry/places.ts';

export interface PullDependencies {
  readonly store: Store;
  /** What all pulls are working on. */
  readonly running: RunningBlobs;
  /** Undefined when artifacts are switched off. */
  readonly artifacts: ArtifactCatalog | undefined;
  readonly log: Logger;
  /** Signatures of an image, from where registries.d says to look for them. */
  signaturesOf(image: FetchedManifest, signal: AbortSignal): Promise<SignaturesByDigest>;
  /** Private keys for encrypted layers. */
  decryptionKeys(): Promise<readonly KeyObject[]>;
  /** Places to read a name from, best first. Throws when its registry is blocked. */
  placesFor(reference: Reference): readonly Place[];
}

export interface PullRequest {
  /** Complete names the request may mean, in the order to try. */
  readonly candidates: readonly Reference[];
  readonly policy: Policy;
  readonly call: Call;
  readonly tracker: PullTracker;
  /** Set when only an artifact will do, with the most bytes that it may have. */
  readonly artifactOnly?: { readonly maxBytes: number };
}

/** What an image is stored under, and what was shown for it. */
interface Target {
  readonly reference: Reference;
  readonly signatures: SignaturesByDigest;
}

type FetchedImage = FetchedManifest<ImageManifest>;

/** Pulls the first candidate that there is. Returns the id; the image is in the store under the candidate's name. */
export async function pullImage(dependencies: PullDependencies, request: PullRequest): Promise<ImageId> {
  const failures: { readonly name: string; readonly error: unknown }[] = [];
  for (const reference of request.candidates) {
    try {
      return await pullCandidate(dependencies, request, reference);
    } catch (error) {
      if (request.call.signal.aborted) request.call.throwIfAborted();
      failures.push({ name: formatReference(reference), error });
    }
  }
  const [first, ...others] = failures;
  if (first === undefined) throw new CrioError('invalid', 'no name to pull');
  if (others.length === 0) throw wrap(`pull "${first.name}"`, first.error);
  const texts = failures.map(({ name, error }) => `"${name}": ${messageOf(error)}`);
  throw new CrioError('unknown', `pull ${texts.join('; ')}`, {
    cause: new AggregateError(failures.map(({ error }) => error)),
  });
}

async function pullCandidate(
  dependencies: PullDependencies,
  request: PullRequest,
  reference: Reference,
): Promise<ImageId> {
  const { call } = request;
  checkRejected(request.policy, reference);
  call.stage('image manifest');
  const fetched = await fetchManifest(reference, dependencies.placesFor(reference), call.signal);
  call.stage('image policy');
  let reading: Promise<SignaturesByDigest> | undefined;
  const readSignatures = () => (reading ??= dependencies.signaturesOf(fetched, call.signal));
  await checkPolicy(request.policy, reference, {
    digests: [fetched.digest],
    signatures: async () => [...(await readSignatures()).values()].flat(),
  });
  // They are kept also where this policy asks for none: that of the namespace that uses the image later may.
  const signatures = await readSignatures().catch((error: unknown) => {
    if (call.signal.aborted) throw error;
    dependencies.log.warn(`Read signatures of "${formatReference(reference)}", which its policy does not need`, error);
    return new Map();
  });
  const id = await pullFetched(dependencies, request, fetched, { reference, signatures });
  call.stage('image done');
  return id;
}

async function pullFetched(
  dependencies: PullDependencies,
  request: PullRequest,
  fetched: FetchedManifest,
  target: Target,
): Promise<ImageId> {
  const { manifest } = fetched;
  if (request.artifactOnly !== undefined && manifest.kind !== 'artifact')
    throw new CrioError('invalid', 'it is an image, not an OCI artifact');
  switch (manifest.kind) {
    case 'image':
      return pullLayeredImage(dependencies, request, { image: { ...fetched, manifest }, target });
    case 'schema1': {
      request.call.stage('image conversion');
      const { tracker, call } = request;
      const options = { tracker, signal: call.signal, log: dependencies.log };
      const converted = await fetchSchema1({ ...fetched, manifest }, options);
      return pullLayeredImage(dependencies, request, { ...converted, target });
    }
    case 'artifact':
      return pullAsArtifact(dependencies, request, { ...fetched, manifest }, target);
  }
}

const nothingKnown: ImageEvidence = { digests: [], signatures: async () => [] };

async function pullAsArtifact(
  { artifacts, running, log }: PullDependencies,
  { call, policy, tracker, artifactOnly }: PullRequest,
  fetched: FetchedManifest<ArtifactManifest>,
  { reference, signatures }: Target,
): Promise<ImageId> {
  const { artifactType } = fetched.manifest;
  if (artifacts === undefined) {
    throw new CrioError('invalid', `it is no image but an artifact of type ${JSON.stringify(artifactType)}`);
  }
  const name = formatReference(reference);
  const additional = await artifacts.findAdditional(name);
  if (additional !== undefined) {
    log.info(`Artifact ${name} already exists in additional store`);
    if (additional.digest === fetched.digest) await artifacts.own.addSignatures(fetched.digest, signatures);
    // What was checked is not what will be used.
    else await checkPolicy(policy, reference, (await artifacts.evidenceOf(additional.id)) ?? nothingKnown);
    return additional.id;
  }
  log.info(`Falling back to pull ${name} as an OCI artifact: its manifest is of type ${artifactType}`);
  call.stage('artifact blobs');
  return pullArtifact({
    name,
    fetched,
    signatures,
    store: artifacts.own,
    running,
    maxBytes: artifactOnly?.maxBytes,
    tracker,
    signal: call.signal,
    log,
  });
}

async function pullLayeredImage(
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
  const commit = async (): Promise<void> => {
    call.stage('image layers');
    const topLayer = await bringLayers(dependencies, request, image, config.document);
    call.stage('image commit');
    tracker.setPhase('committing');
    isCommitting = true;
    await store.layers.sync(topLayer);
    const signatures = await withStoredSignatures(dependencies, id, target.signatures);
    await store.images.put(newImage({ id, image, config, topLayer, target: { ...target, signatures } }));
  };
  using held = store.layers.hold(layers);
  try {
    await commitTwice(commit, { store, layers, signal });
  } catch (error) {
    held[Symbol.dispose]();
    // What was unpacked would fill the disk, or keep its files open, until the next try, which may never come; and
    // nobody would see layers in the index that no image has.
    if (isCommitting || isDiskError(error)) await store.layers.discard(layers);
    throw error;
  }
  return id;
}

/** A removal may have taken a layer that was there when we looked. What a registry answered would be the same again. */
async function commitTwice(
  commit: () => Promise<void>,
  pull: { store: Store; layers: readonly string[]; signal: AbortSignal },
): Promise<void> {
  try {
    await commit();
  } catch (error) {
    const isOurs = kindOf(error) === 'failed-precondition';
    if (pull.signal.aborted || !isOurs || !(await isLayerMissing(pull))) throw error;
    await commit();
  }
}

/** Errors of the worker that unpacks come as text. */
function isDiskError(error: unknown): boolean {
  return /\b(?:ENOSPC|EDQUOT|EROFS|EIO|EMFILE|ENFILE)\b/.test(messageOf(error));
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

async function isLayerMissing({ store, layers }: { store: Store; layers: readonly string[] }): Promise<boolean> {
  for (const id of layers) if ((await store.layers.find(id)) === undefined) return true;
  return false;
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
