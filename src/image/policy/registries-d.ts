import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import { configHome } from '../home-folder.ts';
import type { Reference } from '../reference.ts';
import { policyScopes } from './policy-scopes.ts';
import { parseYamlMapping } from './yaml-mapping.ts';
import type { YamlMapping } from './yaml-mapping.ts';

/** Where the signatures of an image are, containers-registries.d(5). */
export interface SignaturePlaces {
  /** URL of a lookaside store. */
  readonly lookaside: string;
  readonly useSigstoreAttachments: boolean;
}

/** What one section says; what it does not say, a wider one may. */
type Section = Partial<SignaturePlaces>;

export interface RegistriesD {
  readonly byScope: ReadonlyMap<string, Section>;
  readonly default: Section | undefined;
}

const builtIn: SignaturePlaces = { lookaside: 'file:///var/lib/containers/sigstore', useSigstoreAttachments: false };

type Env = Readonly<Record<string, string | undefined>>;

/** The vendor's folders, then the administrator's, then the user's: a file of a later one replaces that of the same name. */
export function registriesDFolders(env: Env): readonly string[] {
  const system = ['/usr/share/containers', '/etc/containers'].flatMap((base) => [
    `${base}/registries.d`,
    `${base}/registries.rootful.d`,
  ]);
  return [...system, join(configHome(env), 'containers/registries.d')];
}

/** Reads all `.yaml` files of the folders. A scope may stand in one of them only. */
export async function loadRegistriesD(folders: readonly string[]): Promise<RegistriesD> {
  const byScope = new Map<string, Section>();
  let fallback: Section | undefined;
  for (const file of await yamlFiles(folders)) {
    const mapping = parseYamlMapping(await readFile(file, 'utf8'), file);
    for (const [key, value] of mapping) {
      if (key === 'default-docker') {
        if (fallback !== undefined)
          throw new CrioError('invalid', `read "${file}": "default-docker" stands in two files`);
        fallback = readPlaces(value, `${file}: default-docker`);
      } else if (key === 'docker') {
        for (const [scope, section] of asMapping(value, `${file}: docker`)) {
          if (byScope.has(scope)) throw new CrioError('invalid', `read "${file}": "${scope}" stands in two files`);
          byScope.set(scope, readPlaces(section, `${file}: docker.${scope}`));
        }
      }
    }
  }
  return { byScope, default: fallback };
}

/**
 * Each setting comes from the most precise scope that has it, as the other container tools do it (their manual page
 * says that wider scopes are not looked at). `lookaside-staging` is for writing only.
 */
export function findSignaturePlaces(config: RegistriesD, reference: Reference): SignaturePlaces {
  const scopes = policyScopes(reference).filter((scope) => scope !== '');
  const sections = [...scopes.map((scope) => config.byScope.get(scope)), config.default];
  const find = <K extends keyof SignaturePlaces>(key: K) =>
    sections.map((section) => section?.[key]).find((value) => value !== undefined);
  return {
    lookaside: find('lookaside') ?? builtIn.lookaside,
    useSigstoreAttachments: find('useSigstoreAttachments') ?? builtIn.useSigstoreAttachments,
  };
}

function readPlaces(value: string | YamlMapping, where: string): Section {
  const section = asMapping(value, where);
  const text = (key: string) => {
    const found = section.get(key);
    if (found !== undefined && typeof found !== 'string' && found.size > 0)
      throw new CrioError('invalid', `${where}.${key}: expected a string`);
    return typeof found === 'string' && found !== '' ? found : undefined;
  };
  // `sigstore` is the old name of `lookaside`.
  const lookaside = text('lookaside') ?? text('sigstore');
  const attachments = text('use-sigstore-attachments')?.toLowerCase();
  if (attachments !== undefined && attachments !== 'true' && attachments !== 'false') {
    throw new CrioError('invalid', `${where}.use-sigstore-attachments: expected true or false`);
  }
  return {
    ...(lookaside === undefined ? {} : { lookaside }),
    ...(attachments === undefined ? {} : { useSigstoreAttachments: attachments === 'true' }),
  };
}

function asMapping(value: string | YamlMapping, where: string): YamlMapping {
  if (typeof value === 'string') throw new CrioError('invalid', `${where}: expected a mapping`);
  return value;
}

/** Paths in the order of their names. */
async function yamlFiles(folders: readonly string[]): Promise<readonly string[]> {
  const byName = new Map<string, string>();
  for (const folder of folders) for (const name of await yamlNames(folder)) byName.set(name, join(folder, name));
  return [...byName].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, file]) => file);
}

async function yamlNames(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith('.yaml'));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw wrap(`read folder "${folder}"`, error);
  }
}
