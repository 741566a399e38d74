import { CrioError, wrap } from '../../base/errors.ts';
import type { ImageStore } from '../../storage/store.ts';
import type { Reference } from '../reference.ts';
import { checkPolicy, PolicyError } from './decide.ts';
import { findPolicy } from './policy-file.ts';
import { readStoredSignatures } from './stored-signatures.ts';

export interface UseRequest {
  readonly imageId: string;
  /** The name as the user wrote it. */
  readonly userSpecifiedImage: string;
  /** Policy files in the order to look; the first that exists counts, none means no check. */
  readonly policyFiles: readonly string[];
  resolve(name: string): readonly Reference[];
}

/**
 * Checks a local image against the configured policy before it is used: it may have been pulled for another namespace,
 * or by another tool. Only policies that CRI-O was told about count here, not the system's.
 */
export async function verifyUse(images: ImageStore, request: UseRequest): Promise<void> {
  const policy = await findPolicy(request.policyFiles);
  if (policy === undefined) return;
  if (request.userSpecifiedImage === '') {
    throw new CrioError('invalid', 'user specified image not specified, cannot verify image signature');
  }
  const record = await images.find(request.imageId);
  if (record === undefined) throw new CrioError('not-found', `image "${request.imageId}" is not in storage`);
  const signatures = async () => [...(await readStoredSignatures(images, record)).values()].flat();
  const evidence = { digests: record.digests, signatures };
  const refusals: unknown[] = [];
  for (const reference of request.resolve(request.userSpecifiedImage)) {
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
