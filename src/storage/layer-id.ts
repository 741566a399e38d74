import { createHash } from 'node:crypto';
import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';

/**
 * Id of an image layer: the hex of its diffID for a base layer, else the SHA-256 of `<parent id>+<diffID hex>`.
 * This is not OCI's chain id.
 */
export function layerIdFor(parent: string | undefined, diffId: Digest): string {
  const hex = /^sha256:([a-f0-9]{64})$/.exec(diffId)?.[1];
  if (hex === undefined) throw new CrioError('invalid', `diffID "${diffId}" is not a SHA-256 digest`);
  if (parent === undefined) return hex;
  return createHash('sha256').update(`${parent}+${hex}`).digest('hex');
}
