import { CrioError, wrap } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { ImageRecord, ImageStore } from '../../storage/store.ts';
import { parseStoredManifest } from '../manifest.ts';
import { repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { checkPolicy, PolicyError } from './decide.ts';
import type { ImageEvidence } from './decide.ts';
import type { Policy } from './policy-file.ts';
import { readStoredSignatures } from './stored-signatures.ts';

export interface LocalEvidence extends ImageEvidence {
  /** Complete names that it has, by tag or digest. */
  readonly names: readonly string[];
}

export interface UseRequest {
  readonly imageId: string;
  /** The name as the user wrote it. */
  readonly userSpecifiedImage: string;
  /** The configured one; undefined means no check. */
  readonly policy: Policy | undefined;
  resolve(name: string): readonly Reference[];
  /** What is known of the image or artifact; undefined when it is not there. */
  evidenceOf(imageId: string): Promise<LocalEvidence | undefined>;
}

/**
 * Checks a local image or artifact against the configured policy before it is used: it may have been pulled for another namespace,
 * or by another tool. Only policies that CRI-O was told about count here, not the system's.
 */
export async function verifyUse(request: UseRequest): Promise<void> {
  const { policy } = request;
  if (policy === undefined) return;
  if (request.userSpecifiedImage === '') {
    throw new CrioError('invalid', 'user specified image not specified, cannot verify image signature');
  }
  const evidence = await request.evidenceOf(request.imageId);
  if (evidence === undefined) throw new CrioError('not-found', `image "${request.imageId}" is not in storage`);
  const refusals: unknown[] = [];
  for (const reference of meant(request.resolve(request.userSpecifiedImage), evidence.names)) {
    try {
      await checkPolicy(policy, reference, evidence);
      return;
    } catch (error) {
      if (!(error instanceof PolicyError)) throw error;
      refusals.push(error);
    }
  }
  throw wrap('SignatureValidationFailed', refusals[0] ?? new Error('no name'), 'unknown');
}

/** A short name may stand for several registries: only those count that the image is from, as long as that is known. */
function meant(candidates: readonly Reference[], names: readonly string[]): readonly Reference[] {
  const own = candidates.filter((reference) =>
    names.some((name) => [':', '@'].some((end) => name.startsWith(`${repositoryOf(reference)}${end}`))),
  );
  return own.length > 0 ? own : candidates;
}

/** What the store keeps of an image. */
export async function storedEvidence(images: ImageStore, imageId: string): Promise<LocalEvidence | undefined> {
  const record = await images.find(imageId);
  if (record === undefined) return undefined;
  const signatures = async () => [...(await readStoredSignatures(images, record)).values()].flat();
  return { digests: await ownDigests(images, record), signatures, names: record.names };
}

/** Of its manifests, without those of the lists that named them: a signature of a list counts for none of its entries. */
async function ownDigests(images: ImageStore, record: ImageRecord): Promise<readonly Digest[]> {
  const own: Digest[] = [];
  for (const digest of record.digests) if (!(await isList(images, record, digest))) own.push(digest);
  return own;
}

async function isList(images: ImageStore, record: ImageRecord, digest: Digest): Promise<boolean> {
  const data = await images.readBigData(record.id, `manifest-${digest}`);
  if (data === undefined) return false;
  try {
    return parseStoredManifest(data).kind === 'index';
  } catch {
    // Damage is found elsewhere; what cannot be read vouches for nothing.
    return true;
  }
}
