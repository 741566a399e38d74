import { CrioError } from '../../base/errors.ts';
import { JsonReader } from '../json.ts';
import type { Json, JsonObject } from '../json.ts';
import { allowKeys, readSignedIdentity } from './identity.ts';
import type { SignedIdentity } from './identity.ts';
import { readKeySources } from './key-sources.ts';
import type { KeySource } from './key-sources.ts';

/** One requirement of containers-policy.json(5). `fields` are as in the file, for people. */
export type Requirement = Rule & { readonly fields: JsonObject };

export type Rule =
  | { readonly type: 'insecureAcceptAnything' | 'reject' | 'signedBaseLayer' }
  | SignedByRule
  | SigstoreRule;

export interface SignedByRule {
  readonly type: 'signedBy';
  readonly keyType: string;
  readonly keys: readonly KeySource[];
  readonly identity: SignedIdentity;
}

export interface SigstoreRule {
  readonly type: 'sigstoreSigned';
  readonly signer: SigstoreSigner;
  /** Keys of transparency logs, of which one must have logged the signature; undefined when none needs to. */
  readonly rekorKeys: readonly KeySource[] | undefined;
  readonly identity: SignedIdentity;
}

/** Who may have signed. */
export type SigstoreSigner =
  | { readonly kind: 'keys'; readonly keys: readonly KeySource[] }
  | {
      readonly kind: 'fulcio';
      readonly roots: readonly KeySource[];
      readonly oidcIssuer: string;
      readonly subjectEmail: string;
    }
  | {
      readonly kind: 'pki';
      readonly roots: readonly KeySource[];
      readonly intermediates: readonly KeySource[];
      readonly subjectEmail: string | undefined;
      readonly subjectHostname: string | undefined;
    };

/** The other tools read all of these, but use the first one only. */
const keyTypes = ['GPGKeys', 'signedByGPGKeys', 'X509Certificates', 'signedByX509CAs'];

/** As strict as the format asks. Files that it names are not read yet. */
export function readRequirement(value: Json, where: string): Requirement {
  const reader = new JsonReader(value, where);
  const fields = new Map(reader.keys.map((key) => [key, reader.raw(key) ?? null]));
  return { ...readRule(reader), fields };
}

function readRule(reader: JsonReader): Rule {
  const type = reader.string('type') ?? '';
  switch (type) {
    case 'insecureAcceptAnything':
    case 'reject':
      allowKeys(reader, ['type']);
      return { type };
    case 'signedBaseLayer':
      allowKeys(reader, ['type', 'baseLayerIdentity']);
      if (!reader.has('baseLayerIdentity'))
        throw new CrioError('invalid', `${reader.path}: baseLayerIdentity not specified`);
      readSignedIdentity(reader.object('baseLayerIdentity'));
      return { type };
    case 'signedBy':
      return readSignedBy(reader);
    case 'sigstoreSigned':
      return readSigstoreSigned(reader);
    default:
      throw new CrioError('invalid', `${reader.path}: unknown policy requirement type ${JSON.stringify(type)}`);
  }
}

function readSignedBy(reader: JsonReader): SignedByRule {
  allowKeys(reader, ['type', 'keyType', 'keyPath', 'keyPaths', 'keyData', 'signedIdentity']);
  const keyType = reader.string('keyType') ?? '';
  if (!keyTypes.includes(keyType))
    throw new CrioError('invalid', `${reader.path}: invalid keyType ${JSON.stringify(keyType)}`);
  const keys = readKeySources(reader, 'key', ['Path', 'Paths', 'Data']);
  if (keys === undefined)
    throw new CrioError('invalid', `${reader.path}: exactly one of keyPath, keyPaths and keyData must be specified`);
  return { type: 'signedBy', keyType, keys, identity: readSignedIdentity(reader.object('signedIdentity')) };
}

function readSigstoreSigned(reader: JsonReader): SigstoreRule {
  const bases = ['key', 'rekorPublicKey'].flatMap((base) => lists.map((suffix) => base + suffix));
  allowKeys(reader, ['type', ...bases, 'fulcio', 'pki', 'signedIdentity']);
  const signer = readSigner(reader);
  const rekorKeys = readKeySources(reader, 'rekorPublicKey', lists);
  if (signer.kind === 'fulcio' && rekorKeys === undefined) {
    throw new CrioError(
      'invalid',
      `${reader.path}: at least one of rekorPublicKeyPath, rekorPublicKeyPaths, rekorPublicKeyData and rekorPublicKeyDatas must be specified if fulcio is used`,
    );
  }
  if (signer.kind === 'pki' && rekorKeys !== undefined) {
    throw new CrioError(
      'invalid',
      `${reader.path}: rekorPublicKeyPath, rekorPublicKeyPaths, rekorPublicKeyData and rekorPublicKeyDatas are not supported for pki`,
    );
  }
  const identity = readSignedIdentity(reader.object('signedIdentity'));
  return { type: 'sigstoreSigned', signer, rekorKeys, identity };
}

const lists = ['Path', 'Paths', 'Data', 'Datas'] as const;

function readSigner(reader: JsonReader): SigstoreSigner {
  const keys = readKeySources(reader, 'key', lists);
  const fulcio = reader.object('fulcio');
  const pki = reader.object('pki');
  if ([keys, fulcio, pki].filter((part) => part !== undefined).length !== 1) {
    throw new CrioError(
      'invalid',
      `${reader.path}: exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio, and pki must be specified`,
    );
  }
  if (fulcio !== undefined) return readFulcio(fulcio);
  if (pki !== undefined) return readPki(pki);
  return { kind: 'keys', keys: keys ?? [] };
}

function readFulcio(reader: JsonReader): SigstoreSigner {
  allowKeys(reader, ['caPath', 'caData', 'oidcIssuer', 'subjectEmail']);
  const roots = requireSources(reader, 'ca');
  const text = (key: string) => {
    const value = reader.string(key) ?? '';
    if (value === '') throw new CrioError('invalid', `${reader.path}: ${key} not specified`);
    return value;
  };
  return { kind: 'fulcio', roots, oidcIssuer: text('oidcIssuer'), subjectEmail: text('subjectEmail') };
}

function readPki(reader: JsonReader): SigstoreSigner {
  const keys = ['caRoots', 'caIntermediates'].flatMap((base) => [`${base}Path`, `${base}Data`]);
  allowKeys(reader, [...keys, 'subjectEmail', 'subjectHostname']);
  const roots = requireSources(reader, 'caRoots');
  const intermediates = readKeySources(reader, 'caIntermediates', ['Path', 'Data']) ?? [];
  const subjectEmail = nonEmpty(reader, 'subjectEmail');
  const subjectHostname = nonEmpty(reader, 'subjectHostname');
  if (subjectEmail === undefined && subjectHostname === undefined)
    throw new CrioError('invalid', `${reader.path}: at least one of subjectEmail, subjectHostname must be specified`);
  return { kind: 'pki', roots, intermediates, subjectEmail, subjectHostname };
}

function requireSources(reader: JsonReader, base: string): readonly KeySource[] {
  const sources = readKeySources(reader, base, ['Path', 'Data']);
  if (sources === undefined)
    throw new CrioError('invalid', `${reader.path}: at least one of ${base}Path and ${base}Data must be specified`);
  return sources;
}

/** An empty name would be no requirement at all. */
function nonEmpty(reader: JsonReader, key: string): string | undefined {
  if (!reader.has(key)) return undefined;
  const value = reader.string(key) ?? '';
  if (value === '') throw new CrioError('invalid', `${reader.path}: "${key}" is empty`);
  return value;
}
