import { CrioError } from '../../base/errors.ts';
import { didYouMean } from '../../config/nearest.ts';
import type { JsonReader } from '../json.ts';
import { formatReference, parseReference, repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';

/** Which names in a signature are good for an image; containers-policy.json(5), `signedIdentity`. */
export type SignedIdentity =
  | { readonly type: 'matchExact' | 'matchRepoDigestOrExact' | 'matchRepository' }
  | { readonly type: 'exactReference' | 'exactRepository'; readonly reference: Reference }
  | { readonly type: 'remapIdentity'; readonly prefix: string; readonly signedPrefix: string };

export function readSignedIdentity(reader: JsonReader | undefined): SignedIdentity {
  if (reader === undefined) return { type: 'matchRepoDigestOrExact' };
  const type = reader.string('type') ?? '';
  switch (type) {
    case 'matchExact':
    case 'matchRepoDigestOrExact':
    case 'matchRepository':
      allowKeys(reader, ['type']);
      return { type };
    case 'exactReference':
      allowKeys(reader, ['type', 'dockerReference']);
      return { type, reference: readReference(reader, 'dockerReference', { needsTag: true }) };
    case 'exactRepository':
      allowKeys(reader, ['type', 'dockerRepository']);
      return { type, reference: readReference(reader, 'dockerRepository', { needsTag: false }) };
    case 'remapIdentity':
      allowKeys(reader, ['type', 'prefix', 'signedPrefix']);
      return { type, prefix: readPrefix(reader, 'prefix'), signedPrefix: readPrefix(reader, 'signedPrefix') };
    default:
      throw new CrioError('invalid', `${reader.path}: unknown type ${JSON.stringify(type)}`);
  }
}

/** True when a signature for `signed` is one for the image that was asked for as `intended`. */
export function matchesIdentity(identity: SignedIdentity, intended: Reference, signed: Reference): boolean {
  switch (identity.type) {
    case 'matchExact':
      return hasTagOrDigest(signed) && formatReference(signed) === formatReference(intended);
    case 'matchRepoDigestOrExact':
      return matchesRepoDigestOrExact(intended, signed);
    case 'matchRepository':
      return repositoryOf(signed) === repositoryOf(intended);
    case 'exactReference':
      return formatReference(signed) === formatReference(identity.reference);
    case 'exactRepository':
      return repositoryOf(signed) === repositoryOf(identity.reference);
    case 'remapIdentity':
      return matchesRepoDigestOrExact(remap(intended, identity), signed);
  }
}

function matchesRepoDigestOrExact(intended: Reference, signed: Reference): boolean {
  if (!hasTagOrDigest(signed)) return false;
  if (intended.digest !== undefined) return repositoryOf(signed) === repositoryOf(intended);
  return intended.tag !== undefined && formatReference(signed) === formatReference(intended);
}

function remap(
  intended: Reference,
  { prefix, signedPrefix }: { readonly prefix: string; readonly signedPrefix: string },
): Reference {
  const text = formatReference(intended);
  const isPrefix = repositoryOf(intended) === prefix || repositoryOf(intended).startsWith(`${prefix}/`);
  return isPrefix ? parseReference(signedPrefix + text.slice(prefix.length)) : intended;
}

function hasTagOrDigest(reference: Reference): boolean {
  return reference.tag !== undefined || reference.digest !== undefined;
}

function readReference(reader: JsonReader, key: string, { needsTag }: { readonly needsTag: boolean }): Reference {
  const reference = parseReference(reader.string(key) ?? '');
  if (hasTagOrDigest(reference) !== needsTag) {
    throw new CrioError(
      'invalid',
      `${reader.path}.${key}: expected a name ${needsTag ? 'with' : 'without'} a tag or digest`,
    );
  }
  return reference;
}

function readPrefix(reader: JsonReader, key: string): string {
  const text = reader.string(key) ?? '';
  if (text === '' || text.includes('@') || /:[^/]*$/.test(text.replace(/^[^/]*/, ''))) {
    throw new CrioError('invalid', `${reader.path}.${key}: expected a registry, namespace or repository`);
  }
  return text;
}

export function allowKeys(reader: JsonReader, allowed: readonly string[]): void {
  const unknown = reader.keys.find((key) => !allowed.includes(key));
  if (unknown !== undefined)
    throw new CrioError(
      'invalid',
      `${reader.path}: unknown key ${JSON.stringify(unknown)}${didYouMean(unknown, allowed)}`,
    );
}
