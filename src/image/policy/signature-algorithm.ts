import { kindOf } from '../../base/errors.ts';
import { contentOf, derTags, readDer, readObjectId, readOnlyDer } from './der.ts';
import type { DerElement } from './der.ts';

/** ECDSA and RSA (PKCS #1) with SHA-2, Ed25519: the hash is in the identifier. */
const accepted = new Set([
  '1.2.840.10045.4.3.2',
  '1.2.840.10045.4.3.3',
  '1.2.840.10045.4.3.4',
  '1.2.840.113549.1.1.11',
  '1.2.840.113549.1.1.12',
  '1.2.840.113549.1.1.13',
  '1.3.101.112',
]);
const rsaPss = '1.2.840.113549.1.1.10';
const mgf1 = '1.2.840.113549.1.1.8';
/** SHA-256, SHA-384, SHA-512 */
const hashes = new Set(['2.16.840.1.101.3.4.2.1', '2.16.840.1.101.3.4.2.2', '2.16.840.1.101.3.4.2.3']);

/**
 * Why a signature with this AlgorithmIdentifier proves nothing; undefined when its hash is not broken. RSA-PSS names the hash
 * in its parameters, SHA-1 when it does not (RFC 4055, 3.1).
 */
export function signatureProblem(identifier: DerElement | undefined): string | undefined {
  const { id, parameters } = readAlgorithm(identifier);
  if (accepted.has(id)) return undefined;
  if (id !== rsaPss) return `its signature algorithm ${id} is not accepted`;
  return isSoundPss(parameters) ? undefined : 'its RSA-PSS signature is not one with SHA-2 throughout';
}

/** Fields that stand twice or in another order are left to OpenSSL, which then verifies nothing. */
function isSoundPss(parameters: DerElement | undefined): boolean {
  try {
    const fields = readDer(contentOf(parameters, derTags.sequence));
    const hash = readField(fields, derTags.explicit0);
    const mask = readField(fields, derTags.explicit1);
    if (hash === undefined || !hashes.has(hash.id) || mask?.id !== mgf1) return false;
    return readAlgorithm(mask.parameters).id === hash.id;
  } catch (error) {
    // It may be a root's own signature, which nobody needs.
    if (kindOf(error) !== 'invalid') throw error;
    return false;
  }
}

interface Algorithm {
  readonly id: string;
  readonly parameters: DerElement | undefined;
}

function readAlgorithm(identifier: DerElement | undefined): Algorithm {
  const [oid, parameters] = readDer(contentOf(identifier, derTags.sequence));
  return { id: readObjectId(contentOf(oid, derTags.objectId)), parameters };
}

function readField(fields: readonly DerElement[], tag: number): Algorithm | undefined {
  const field = fields.find((each) => each.tag === tag);
  if (field === undefined) return undefined;
  return readAlgorithm({ tag: derTags.sequence, content: readOnlyDer(field.content, derTags.sequence) });
}
