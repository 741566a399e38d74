import { CrioError, messageOf, wrap } from '../base/errors.ts';
import type { ImageId } from '../base/ids.ts';
import { pullArtifact } from './artifacts/pull-artifact.ts';
import { fetchManifest } from './fetch-image.ts';
import type { FetchedManifest } from './fetch-image.ts';
import { checkPolicy, checkRejected } from './policy/decide.ts';
import type { ImageEvidence } from './policy/decide.ts';
import type { SignaturesByDigest } from './policy/stored-signatures.ts';
import { fetchSchema1 } from './fetch-schema1.ts';
import type { ArtifactManifest } from './manifest.ts';
import { formatReference } from './reference.ts';
import type { Reference } from './reference.ts';
import { pullLayeredImage } from './pull-layered-image.ts';
import type { PullDependencies, PullRequest, Target } from './pull-request.ts';

/** Pulls the first candidate that there is. Returns the id; the image is in the store under the candidate's name. */
export async function pullImage(dependencies: PullDependencies, request: PullRequest): Promise<ImageId> {
  const failures: Failure[] = [];
  for (const reference of request.candidates) {
    try {
      return await pullCandidate(dependencies, request, reference);
    } catch (error) {
      if (request.call.signal.aborted) request.call.throwIfAborted();
      failures.push({ name: formatReference(reference), error });
    }
  }
  throw pullError(request.tracker.reference, failures);
}

interface Failure {
  /** A complete name that was tried. */
  readonly name: string;
  readonly error: unknown;
}

/** Names what was asked for and, where aliases or search registries made something else of it, what that was. */
function pullError(requested: string, failures: readonly Failure[]): CrioError {
  const [first, ...others] = failures;
  if (first === undefined) return new CrioError('invalid', 'no name to pull');
  const asked = requested.replace(/^docker:\/\//, '');
  const isComplete = first.name === asked || first.name === `${asked}:latest`;
  if (others.length === 0)
    return wrap(isComplete ? `pull "${first.name}"` : `pull "${asked}" as "${first.name}"`, first.error);
  const texts = failures.map(({ name, error }) => `as "${name}": ${messageOf(error)}`);
  return new CrioError('unknown', `pull "${asked}" ${texts.join('; ')}`, {
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
