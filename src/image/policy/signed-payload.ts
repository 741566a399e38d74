import { CrioError } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import { JsonReader, parseStrictJson } from '../json.ts';
import { parseDigest, parseReference } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { allowKeys } from './identity.ts';

/** What a signature claims. */
export interface SignedClaim {
  readonly digest: Digest;
  readonly reference: Reference;
}

/** `critical.type` by kind of signature. */
export const claimTypes = {
  simple: 'atomic container signature',
  sigstore: 'cosign container image signature',
} as const;

/** Reads the JSON of a signature, strictly; container-signature(5). Only after its cryptographic check. */
export function readClaim(payload: Uint8Array, type: (typeof claimTypes)[keyof typeof claimTypes]): SignedClaim {
  const reader = new JsonReader(parseStrictJson(payload, 'signature'), 'signature');
  allowKeys(reader, ['critical', 'optional']);
  const critical = required(reader, 'critical');
  allowKeys(critical, ['type', 'image', 'identity']);
  if (critical.string('type') !== type)
    throw new CrioError('invalid', `${critical.path}.type: expected ${JSON.stringify(type)}`);
  const image = required(critical, 'image');
  allowKeys(image, ['docker-manifest-digest']);
  const identity = required(critical, 'identity');
  allowKeys(identity, ['docker-reference']);
  const optional = reader.object('optional');
  optional?.string('creator');
  optional?.integer('timestamp');
  return {
    digest: parseDigest(image.string('docker-manifest-digest') ?? ''),
    reference: parseReference(identity.string('docker-reference') ?? ''),
  };
}

function required(reader: JsonReader, key: string): JsonReader {
  const object = reader.object(key);
  if (object === undefined) throw new CrioError('invalid', `${reader.path}.${key}: missing`);
  return object;
}
