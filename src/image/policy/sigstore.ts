import { createPublicKey, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { CrioError, messageOf, wrap } from '../../base/errors.ts';
import { JsonReader } from '../json.ts';
import { allowKeys, readSignedIdentity } from './identity.ts';
import type { SignedIdentity } from './identity.ts';
import type { Requirement } from './policy-file.ts';

/** A sigstore signature as it is attached to an image. */
export interface SigstoreSignature {
  readonly mimeType: string;
  readonly payload: Buffer;
  readonly annotations: ReadonlyMap<string, string>;
}

export const sigstoreMimeType = 'application/vnd.dev.cosign.simplesigning.v1+json';
export const signatureAnnotation = 'dev.cosignproject.cosign/signature';

/** A `sigstoreSigned` requirement with its keys read. */
export interface SigstoreRequirement {
  readonly keys: readonly KeyObject[];
  readonly identity: SignedIdentity;
}

/** Reads a requirement. Throws `unimplemented` for the parts that are not supported. */
export async function readSigstoreRequirement(requirement: Requirement, where: string): Promise<SigstoreRequirement> {
  const reader = new JsonReader(requirement.fields, where);
  for (const key of reader.keys) {
    if (key === 'fulcio' || key.startsWith('rekorPublicKey') || key === 'pki') {
      throw new CrioError('unimplemented', `${where}: ${JSON.stringify(key)} is not supported yet`);
    }
  }
  allowKeys(reader, ['type', 'keyPath', 'keyPaths', 'keyData', 'keyDatas', 'signedIdentity']);
  const sources = ['keyPath', 'keyPaths', 'keyData', 'keyDatas'].filter((key) => reader.has(key));
  if (sources.length !== 1)
    throw new CrioError('invalid', `${where}: exactly one of keyPath, keyPaths, keyData and keyDatas must be given`);
  return { keys: await readKeys(reader, where), identity: readSignedIdentity(reader.object('signedIdentity')) };
}

async function readKeys(reader: JsonReader, where: string): Promise<readonly KeyObject[]> {
  const paths = [...oneOrNone(reader.string('keyPath')), ...reader.strings('keyPaths')];
  const texts = [...oneOrNone(reader.string('keyData')), ...reader.strings('keyDatas')];
  const files = await Promise.all(
    paths.map(async (path) => {
      try {
        return await readFile(path);
      } catch (error) {
        throw wrap(`read public key "${path}"`, error);
      }
    }),
  );
  const keys = [...files, ...texts.map((text) => Buffer.from(text, 'base64'))];
  return keys.map((pem) => {
    try {
      return createPublicKey(pem);
    } catch (error) {
      throw new CrioError('invalid', `${where}: read public key: ${messageOf(error)}`);
    }
  });
}

function oneOrNone(text: string | undefined): readonly string[] {
  return text === undefined ? [] : [text];
}

/** True when one of the keys made this signature over its payload. */
export function isSignedByKey(signature: SigstoreSignature, keys: readonly KeyObject[]): boolean {
  const bytes = Buffer.from(signature.annotations.get(signatureAnnotation) ?? '', 'base64');
  return keys.some((key) => verify(isEdwards(key) ? null : 'sha256', signature.payload, key, bytes));
}

function isEdwards(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ed25519' || key.asymmetricKeyType === 'ed448';
}
