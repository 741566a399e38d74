import { createHash } from 'node:crypto';
import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';

export function digestOf(data: Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}

/** Throws `invalid` when the data has another digest. The digest must have passed `parseDigest`. */
export function checkDigest(data: Uint8Array, digest: Digest, what: string): void {
  const algorithm = digest.slice(0, digest.indexOf(':'));
  const actual = `${algorithm}:${createHash(algorithm).update(data).digest('hex')}`;
  if (actual !== digest) throw new CrioError('invalid', `verify ${what}: digest is ${actual}, expected ${digest}`);
}
