import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import { formatReference, repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { parseYamlMapping } from './yaml-mapping.ts';
import type { YamlMapping } from './yaml-mapping.ts';

/** Where the signatures of an image are, containers-registries.d(5). */
export interface SignaturePlaces {
  /** URL of a lookaside store; undefined for none. */
  readonly lookaside: string | undefined;
  readonly useSigstoreAttachments: boolean;
}

export interface RegistriesD {
  readonly byScope: ReadonlyMap<string, SignaturePlaces>;
  readonly default: SignaturePlaces | undefined;
}

const builtIn: SignaturePlaces = { lookaside: 'file:///var/lib/containers/sigstore', useSigstoreAttachments: false };

/** Reads all `.yaml` files of a folder. A scope may stand in one of them only. */
export async function loadRegistriesD(dir: string): Promise<RegistriesD> {
  const byScope = new Map<string, SignaturePlaces>();
  let fallback: SignaturePlaces | undefined;
  for (const name of await yamlFiles(dir)) {
    const file = join(dir, name);
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

/** The section of the most precise scope; the others are not looked at. */
export function findSignaturePlaces(config: RegistriesD, reference: Reference): SignaturePlaces {
  let name = repositoryOf(reference);
  for (const scope of [formatReference(reference), name]) {
    const found = config.byScope.get(scope);
    if (found !== undefined) return found;
  }
  for (let slash = name.lastIndexOf('/'); slash >= 0; slash = name.lastIndexOf('/')) {
    name = name.slice(0, slash);
    const found = config.byScope.get(name);
    if (found !== undefined) return found;
  }
  return config.default ?? builtIn;
}

function readPlaces(value: string | YamlMapping, where: string): SignaturePlaces {
  const section = asMapping(value, where);
  const text = (key: string) => {
    const found = section.get(key);
    if (found !== undefined && typeof found !== 'string' && found.size > 0)
      throw new CrioError('invalid', `${where}.${key}: expected a string`);
    return typeof found === 'string' ? found : undefined;
  };
  const attachments = text('use-sigstore-attachments');
  if (attachments !== undefined && attachments !== 'true' && attachments !== 'false') {
    throw new CrioError('invalid', `${where}.use-sigstore-attachments: expected true or false`);
  }
  // `sigstore` is the old name of `lookaside`.
  return { lookaside: text('lookaside') ?? text('sigstore'), useSigstoreAttachments: attachments === 'true' };
}

function asMapping(value: string | YamlMapping, where: string): YamlMapping {
  if (typeof value === 'string') throw new CrioError('invalid', `${where}: expected a mapping`);
  return value;
}

async function yamlFiles(dir: string): Promise<readonly string[]> {
  try {
    return (await readdir(dir)).filter((name) => name.endsWith('.yaml')).toSorted();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw wrap(`read folder "${dir}"`, error);
  }
}
