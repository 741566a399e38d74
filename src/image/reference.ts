import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';

/** A complete image reference: `domain/path[:tag][@digest]`, as `docker.io/library/busybox:1.36`. */
export interface Reference {
  /** Host with optional port; `docker.io` when the text named none. */
  readonly domain: string;
  /** Repository inside the registry, without a leading slash. */
  readonly path: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

const maxReferenceLength = 4096;
const maxPathLength = 255;
const defaultDomain = 'docker.io';
const legacyDomain = 'index.docker.io';
const officialNamespace = 'library';

const domainComponent = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const domainPattern = new RegExp(`^(?:${domainComponent}(?:\\.${domainComponent})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const pathPattern = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^\w[\w.-]{0,127}$/;
const hexLength: ReadonlyMap<string, number> = new Map([
  ['sha256', 64],
  ['sha384', 96],
  ['sha512', 128],
]);

/**
 * Parses a reference as container tools do: no domain means `docker.io`, and a bare name there lies below `library/`.
 * Neither a tag nor a digest is added. Throws `invalid` with the texts of the reference library.
 */
export function parseReference(text: string): Reference {
  if (text.length > maxReferenceLength) throw invalid(text.slice(0, 64), 'longer than 4096 characters');
  if (/^[a-f0-9]{64}$/.test(text)) {
    throw new CrioError('invalid', `invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  const { name, tag, digest } = splitReference(text);
  const { domain, path } = splitDomain(name);
  if (!domainPattern.test(domain)) throw invalid(text, 'invalid reference format');
  if (!pathPattern.test(path)) throw invalid(text, pathProblem(path));
  if (path.length > maxPathLength)
    throw invalid(text, `repository name must not be more than ${maxPathLength} characters`);
  if (tag !== undefined && !tagPattern.test(tag)) throw invalid(text, 'invalid tag format');
  return { domain, path, tag, digest: digest === undefined ? undefined : parseDigest(digest) };
}

/** `domain/path[:tag][@digest]`, which `parseReference` reads back to the same value. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${repositoryOf(reference)}${tag}${digest}`;
}

/** `domain/path` */
export function repositoryOf(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** The reference to look up and to store: `latest` where nothing is said; of tag and digest the digest decides. */
export function canonicalReference(reference: Reference): Reference {
  if (reference.digest !== undefined) return { ...reference, tag: undefined };
  return { ...reference, tag: reference.tag ?? 'latest' };
}

/** True when the text names no registry, so that aliases and search registries apply. */
export function isShortName(text: string): boolean {
  const { name } = splitReference(text);
  return !namesDomain(name);
}

/** Checks algorithm and length. Throws `invalid`. */
export function parseDigest(text: string): Digest {
  const colon = text.indexOf(':');
  const algorithm = text.slice(0, colon);
  const hex = text.slice(colon + 1);
  const length = hexLength.get(algorithm);
  if (colon < 0 || length === undefined)
    throw new CrioError('invalid', `unsupported digest algorithm in ${quote(text)}`);
  if (hex.length !== length || !/^[a-f0-9]+$/.test(hex)) {
    throw new CrioError('invalid', `invalid checksum digest format in ${quote(text)}`);
  }
  return text;
}

function splitReference(text: string): { name: string; tag: string | undefined; digest: string | undefined } {
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  const head = at < 0 ? text : text.slice(0, at);
  const colon = head.lastIndexOf(':');
  // A colon before the last slash belongs to the port.
  if (colon < 0 || colon < head.lastIndexOf('/')) return { name: head, tag: undefined, digest };
  return { name: head.slice(0, colon), tag: head.slice(colon + 1), digest };
}

function splitDomain(name: string): { domain: string; path: string } {
  if (!namesDomain(name)) return normalize(defaultDomain, name);
  const slash = name.indexOf('/');
  return normalize(name.slice(0, slash), name.slice(slash + 1));
}

function normalize(domain: string, path: string): { domain: string; path: string } {
  const host = domain === legacyDomain ? defaultDomain : domain;
  if (host === defaultDomain && !path.includes('/')) return { domain: host, path: `${officialNamespace}/${path}` };
  return { domain: host, path };
}

/** The first component is a domain when it has a dot, a port or an upper-case letter, or is `localhost`. */
function namesDomain(name: string): boolean {
  const slash = name.indexOf('/');
  if (slash < 0) return false;
  const first = name.slice(0, slash);
  return /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
}

function pathProblem(path: string): string {
  return path !== path.toLowerCase() && pathPattern.test(path.toLowerCase())
    ? `invalid reference format: repository name (${path}) must be lowercase`
    : 'invalid reference format';
}

function invalid(text: string, reason: string): CrioError {
  return new CrioError('invalid', `parse image reference ${quote(text)}: ${reason}`);
}

function quote(text: string): string {
  return JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}...` : text);
}
