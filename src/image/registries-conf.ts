import { CrioError } from '../base/errors.ts';
import { formatReference, parseReference, repositoryOf } from './reference.ts';
import type { Reference } from './reference.ts';

export type PullFromMirror = 'all' | 'digest-only' | 'tag-only';
export type ShortNameMode = 'enforcing' | 'permissive' | 'disabled';

/** What containers-registries.conf(5) says, all files merged. */
export interface RegistriesConf {
  readonly searchRegistries: readonly string[];
  /** Undefined when no file says. */
  readonly shortNameMode: ShortNameMode | undefined;
  /** Undefined when no file says: only auth files then. */
  readonly credentialHelpers: readonly string[] | undefined;
  /** Short name to repository. */
  readonly aliases: ReadonlyMap<string, string>;
  readonly rules: readonly RegistryRule[];
  /** The files, for error texts. */
  readonly source: string;
  /** One line for each key that is in a file and has no meaning; all of them have been ignored. */
  readonly warnings: readonly string[];
}

/** One `[[registry]]` table. */
export interface RegistryRule {
  readonly prefix: string;
  /** Empty: names below the prefix (a wildcard) are used as they are. */
  readonly location: string;
  readonly insecure: boolean;
  readonly blocked: boolean;
  readonly mirrorByDigestOnly: boolean;
  readonly mirrors: readonly MirrorRule[];
}

export interface MirrorRule {
  readonly location: string;
  readonly insecure: boolean;
  readonly pullFromMirror: PullFromMirror;
}

/** One place an image may be read from. */
export interface PullSource {
  /** The physical reference: the registry to ask, and what for. */
  readonly reference: Reference;
  readonly insecure: boolean;
  readonly isMirror: boolean;
  /** The repository has another path there than in the name that was asked for. */
  readonly hasOtherPath: boolean;
}

/** The places to try, in order: the mirrors that serve this kind of reference, then the registry itself. */
export function pullSources(conf: RegistriesConf, reference: Reference): readonly PullSource[] {
  const rule = findRule(conf, reference);
  if (rule === undefined) return [{ reference, insecure: false, isMirror: false, hasOtherPath: false }];
  if (rule.blocked) {
    throw new CrioError('failed-precondition', `registry ${rule.prefix} is blocked in ${conf.source}`);
  }
  const sourceAt = (location: string, insecure: boolean, isMirror: boolean): PullSource => {
    const rewritten = rewrite(reference, rule.prefix, location);
    return { reference: rewritten, insecure, isMirror, hasOtherPath: rewritten.path !== reference.path };
  };
  const mirrors = rule.mirrors
    .filter((mirror) => servesReference(mirror, rule, reference))
    .map(({ location, insecure }) => sourceAt(location, insecure, true));
  return [...mirrors, sourceAt(rule.location, rule.insecure, false)];
}

/** True when a registry or mirror on this host (`host[:port]`), or in it, was declared insecure. */
export function isInsecureHost({ rules }: RegistriesConf, host: string): boolean {
  const isOn = (location: string) => location === host || location.startsWith(`${host}/`);
  return rules.some(
    ({ location, insecure, mirrors }) =>
      (insecure && isOn(location)) || mirrors.some((mirror) => mirror.insecure && isOn(mirror.location)),
  );
}

/**
 * The table with the longest prefix that covers the repository; undefined when none does. Tag and digest do not count,
 * and of two prefixes of one length the first in the order of their letters is taken: so do podman and skopeo.
 */
export function findRule(conf: RegistriesConf, reference: Reference): RegistryRule | undefined {
  const text = repositoryOf(reference);
  let best: RegistryRule | undefined;
  for (const rule of conf.rules) {
    if (matchLength(text, rule.prefix) === 0) continue;
    const longer = rule.prefix.length - (best?.prefix.length ?? 0);
    if (best === undefined || longer > 0 || (longer === 0 && rule.prefix < best.prefix)) best = rule;
  }
  return best;
}

/**
 * Number of characters of the reference that the prefix covers, 0 for none. What follows the prefix must start a new
 * part: `/`, `:` or `@`. (So `example.com` covers `example.com:5000` too, as with the other tools.)
 */
export function matchLength(reference: string, prefix: string): number {
  if (prefix.startsWith('*.')) return wildcardLength(reference, prefix.slice(1));
  return reference.startsWith(prefix) && endsPart(reference, prefix.length) ? prefix.length : 0;
}

function wildcardLength(reference: string, suffix: string): number {
  const start = reference.indexOf(suffix);
  if (start < 1 || reference.slice(0, start).includes('/')) return 0;
  const end = start + suffix.length;
  return endsPart(reference, end) ? end : 0;
}

function endsPart(reference: string, index: number): boolean {
  return index === reference.length || '/:@'.includes(reference.charAt(index));
}

function servesReference(mirror: MirrorRule, rule: RegistryRule, reference: Reference): boolean {
  const byDigest = reference.digest !== undefined;
  if (rule.mirrorByDigestOnly) return byDigest;
  if (mirror.pullFromMirror === 'all') return true;
  return byDigest === (mirror.pullFromMirror === 'digest-only');
}

/** Replaces what the prefix covers by the location. */
function rewrite(reference: Reference, prefix: string, location: string): Reference {
  if (location === '') return reference;
  const text = formatReference(reference);
  const rewritten = location + text.slice(matchLength(text, prefix));
  const result = parseReference(rewritten);
  if (formatReference(result) !== rewritten) {
    throw new CrioError(
      'invalid',
      `rewrite "${text}" to location "${location}": "${rewritten}" is not a complete reference`,
    );
  }
  return result;
}
