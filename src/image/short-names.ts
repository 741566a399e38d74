import { CrioError } from '../base/errors.ts';
import { canonicalReference, isShortName, parseReference } from './reference.ts';
import type { Reference } from './reference.ts';
import type { RegistriesConf, ShortNameMode } from './registries-conf.ts';

/**
 * The complete references a name may stand for, in the order to try. A name with a registry stands for itself; a
 * short name for its alias, else for one in each search registry.
 */
export function resolveName(conf: RegistriesConf, mode: ShortNameMode | undefined, text: string): readonly Reference[] {
  const parsed = parseReference(text);
  if (!isShortName(text)) return [canonicalReference(parsed)];
  const { tag, digest } = parsed;
  const name = text.slice(0, text.length - suffixLength(parsed));
  const alias = conf.aliases.get(name);
  if (alias !== undefined) return [canonicalReference({ ...parseReference(alias), tag, digest })];
  if (conf.searchRegistries.length === 0) {
    throw new CrioError(
      'invalid',
      `short-name ${JSON.stringify(text)} did not resolve to an alias and no unqualified-search registries are defined in ${JSON.stringify(conf.source)}`,
    );
  }
  const effective = mode ?? conf.shortNameMode ?? 'permissive';
  if (effective === 'enforcing' && conf.searchRegistries.length > 1) {
    // CRI-O's text; it stands for the question that a terminal would get.
    throw new CrioError('invalid', `short name mode is enforcing, but image name ${text} returns ambiguous list`);
  }
  return conf.searchRegistries.map((registry) =>
    canonicalReference({ ...parseReference(`${registry}/${name}`), tag, digest }),
  );
}

function suffixLength(reference: Reference): number {
  const tag = reference.tag === undefined ? 0 : reference.tag.length + 1;
  return tag + (reference.digest === undefined ? 0 : reference.digest.length + 1);
}

/** `short_name_mode` of the configuration; empty: registries.conf decides. */
export function configuredMode(text: string): ShortNameMode | undefined {
  return text === 'enforcing' || text === 'disabled' ? text : undefined;
}
