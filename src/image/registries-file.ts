import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { getStaticTOMLValue, parseTOML } from 'toml-eslint-parser';
import { CrioError, hasCode, messageOf, wrap } from '../base/errors.ts';
import { homeFolder } from './home-folder.ts';
import { isShortName, parseReference } from './reference.ts';
import { TomlTableReader } from './toml-table-reader.ts';
import type { MirrorRule, PullFromMirror, RegistriesConf, RegistryRule, ShortNameMode } from './registries-conf.ts';

export interface RegistriesPaths {
  readonly file: string;
  readonly dropInDirs: readonly string[];
  /** Aliases that other tools recorded; they win. */
  readonly aliasFile: string;
  /** The user's own: when the file is there, these are read instead. */
  readonly user?: { readonly file: string; readonly dropInDirs: readonly string[] };
}

type Env = Readonly<Record<string, string | undefined>>;

const system = '/etc/containers/registries.conf';

/**
 * Where the files are: the environment wins, then what the configuration says, then the user's (root is one too), then the
 * system's. The user's drop-ins are read after the system's.
 */
export function registriesPaths(
  env: Env,
  configured: { readonly file?: string; readonly dropInDir?: string } = {},
): RegistriesPaths {
  const file = given(env['CONTAINERS_REGISTRIES_CONF'] ?? configured.file);
  const dropInDir = given(env['CONTAINERS_REGISTRIES_CONF_DIR'] ?? configured.dropInDir);
  const own = join(homeFolder(env), '.config/containers/registries.conf');
  const explicit = dropInDir === undefined ? undefined : [dropInDir];
  return {
    file: file ?? system,
    dropInDirs: explicit ?? [`${system}.d`, `${own}.d`],
    aliasFile: '/var/cache/containers/short-name-aliases.conf',
    ...(file === undefined ? { user: { file: own, dropInDirs: explicit ?? [`${own}.d`] } } : {}),
  };
}

function given(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

interface Layer {
  readonly searchRegistries: readonly string[] | undefined;
  readonly shortNameMode: ShortNameMode | undefined;
  readonly credentialHelpers: readonly string[] | undefined;
  readonly aliases: ReadonlyMap<string, string>;
  readonly rules: readonly RegistryRule[];
  readonly warnings: readonly string[];
}

/** Reads and merges all files; a missing one is as an empty one. Throws `invalid` naming the file. */
export async function loadRegistriesConf(paths: RegistriesPaths): Promise<RegistriesConf> {
  const layers: Layer[] = [];
  const own = paths.user === undefined ? undefined : await readOptional(paths.user.file);
  const { file: mainFile, dropInDirs } = own === undefined ? paths : (paths.user ?? paths);
  const main = own ?? (await readOptional(mainFile));
  if (main !== undefined) layers.push(parseLayer(main, mainFile, { allowVersion1: true }));
  for (const file of await dropIns(dropInDirs)) {
    const text = await readOptional(file);
    if (text !== undefined) layers.push(parseLayer(text, file, { allowVersion1: false }));
  }
  const recorded = await readOptional(paths.aliasFile);
  if (recorded !== undefined)
    layers.push({ ...emptyLayer, aliases: parseLayer(recorded, paths.aliasFile, { allowVersion1: false }).aliases });
  return merge(layers, `${mainFile} or ${dropInDirs.join(' or ')}`);
}

/** Parses one file. Exported for tests. */
export function parseRegistriesConf(text: string, file: string): RegistriesConf {
  return merge([parseLayer(text, file, { allowVersion1: true })], file);
}

const emptyLayer: Layer = {
  searchRegistries: undefined,
  shortNameMode: undefined,
  credentialHelpers: undefined,
  aliases: new Map(),
  rules: [],
  warnings: [],
};

function merge(layers: readonly Layer[], source: string): RegistriesConf {
  const aliases = new Map<string, string>();
  const rules = new Map<string, RegistryRule>();
  let { searchRegistries, shortNameMode, credentialHelpers } = emptyLayer;
  for (const layer of layers) {
    searchRegistries = layer.searchRegistries ?? searchRegistries;
    shortNameMode = layer.shortNameMode ?? shortNameMode;
    credentialHelpers = layer.credentialHelpers ?? credentialHelpers;
    for (const rule of layer.rules) rules.set(rule.prefix, rule);
    for (const [name, value] of layer.aliases) {
      if (value === '') aliases.delete(name);
      else aliases.set(name, value);
    }
  }
  return {
    searchRegistries: searchRegistries ?? [],
    shortNameMode,
    credentialHelpers,
    aliases,
    rules: [...rules.values()],
    source,
    warnings: layers.flatMap(({ warnings }) => warnings),
  };
}

function parseLayer(text: string, file: string, options: { readonly allowVersion1: boolean }): Layer {
  try {
    const table = new TomlTableReader(getStaticTOMLValue(parseTOML(text)), '');
    const layer = readLayer(table, options);
    return { ...layer, warnings: table.unknownKeys().map((text) => `${file}: ${text}`) };
  } catch (error) {
    if (error instanceof CrioError) throw wrap(`read registries configuration "${file}"`, error);
    throw new CrioError('invalid', `read registries configuration "${file}"${position(error)}: ${messageOf(error)}`);
  }
}

function readLayer(table: TomlTableReader, options: { readonly allowVersion1: boolean }): Layer {
  const version1 = table.table('registries');
  if (version1 === undefined) return readVersion2(table);
  if (!options.allowVersion1) throw new CrioError('invalid', 'version 1 format is not allowed in a drop-in file');
  if (table.tables('registry').length > 0 || table.strings('unqualified-search-registries') !== undefined) {
    throw new CrioError('invalid', 'mixing sysregistry v1/v2 is not supported');
  }
  return readVersion1(version1);
}

/** TOML syntax errors carry their place. */
function position(error: unknown): string {
  if (!(error instanceof Error) || !('lineNumber' in error) || typeof error.lineNumber !== 'number') return '';
  const column = 'column' in error && typeof error.column === 'number' ? `:${error.column + 1}` : '';
  return `:${error.lineNumber}${column}`;
}

function readVersion2(table: TomlTableReader): Layer {
  // For other programs.
  table.string('additional-layer-store-auth-helper');
  return {
    ...emptyLayer,
    searchRegistries: table.strings('unqualified-search-registries')?.map((item) => parseLocation(item)),
    shortNameMode: readMode(table.string('short-name-mode')),
    credentialHelpers: table.strings('credential-helpers'),
    aliases: readAliases(table.table('aliases')),
    rules: readRules(table.tables('registry')),
  };
}

function readVersion1(table: TomlTableReader): Layer {
  const list = (key: string) => (table.table(key)?.strings('registries') ?? []).map((item) => parseLocation(item));
  const insecure = new Set(list('insecure'));
  const blocked = new Set(list('block'));
  const rules = [...new Set([...insecure, ...blocked])].map((location) => ({
    prefix: location,
    location,
    insecure: insecure.has(location),
    blocked: blocked.has(location),
    mirrorByDigestOnly: false,
    mirrors: [],
  }));
  return { ...emptyLayer, searchRegistries: list('search'), rules };
}

function readRules(tables: readonly TomlTableReader[]): readonly RegistryRule[] {
  const rules = new Map<string, RegistryRule>();
  for (const table of tables) {
    const rule = readRule(table);
    const before = rules.get(rule.prefix);
    for (const key of ['insecure', 'blocked'] as const) {
      if (before !== undefined && before[key] !== rule[key]) {
        throw new CrioError(
          'invalid',
          `registry '${rule.location}' is defined multiple times with conflicting '${key}' setting`,
        );
      }
    }
    rules.set(rule.prefix, rule);
  }
  return [...rules.values()];
}

function readRule(table: TomlTableReader): RegistryRule {
  const prefix = table.string('prefix') ?? '';
  const locationText = table.string('location') ?? '';
  const isWildcard = prefix.startsWith('*.');
  if (prefix === '' && locationText === '')
    throw new CrioError('invalid', 'invalid condition: both location and prefix are unset');
  if (locationText === '' && !isWildcard) {
    throw new CrioError(
      'invalid',
      `invalid condition: location is unset and prefix "${prefix}" is not in the format: *.example.com`,
    );
  }
  if (isWildcard && /[/@:]|\*/.test(prefix.slice(2))) {
    throw new CrioError(
      'invalid',
      `prefix "${prefix}": a wildcard stands for subdomains of a host only, as in *.example.com`,
    );
  }
  const location = locationText === '' ? '' : parseLocation(locationText);
  const mirrorByDigestOnly = table.boolean('mirror-by-digest-only') ?? false;
  return {
    prefix: prefix === '' ? location : isWildcard ? prefix : parseLocation(prefix),
    location,
    insecure: table.boolean('insecure') ?? false,
    blocked: table.boolean('blocked') ?? false,
    mirrorByDigestOnly,
    mirrors: table.tables('mirror').map((mirror) => readMirror(mirror, mirrorByDigestOnly, prefix || location)),
  };
}

function readMirror(table: TomlTableReader, mirrorByDigestOnly: boolean, prefix: string): MirrorRule {
  const mode = table.string('pull-from-mirror') ?? '';
  if (mode !== '' && mirrorByDigestOnly) {
    throw new CrioError(
      'invalid',
      `cannot set mirror usage mirror-by-digest-only for the registry ("${prefix}") and pull-from-mirror for per-mirror ("${mode}") at the same time`,
    );
  }
  if (!isPullFromMirror(mode))
    throw new CrioError('invalid', `unsupported pull-from-mirror value "${mode}" for mirror`);
  return {
    location: parseLocation(table.string('location') ?? ''),
    insecure: table.boolean('insecure') ?? false,
    pullFromMirror: mode === '' ? 'all' : mode,
  };
}

function isPullFromMirror(text: string): text is PullFromMirror | '' {
  return ['', 'all', 'digest-only', 'tag-only'].includes(text);
}

function readMode(text: string | undefined): ShortNameMode | undefined {
  switch (text) {
    case undefined:
    case '':
      return undefined;
    case 'enforcing':
    case 'permissive':
    case 'disabled':
      return text;
    default:
      throw new CrioError('invalid', `invalid short-name mode: "${text}"`);
  }
}

function readAliases(table: TomlTableReader | undefined): ReadonlyMap<string, string> {
  const aliases = new Map<string, string>();
  for (const name of table?.keys ?? []) {
    const value = table?.string(name) ?? '';
    if (!isShortName(name)) throw new CrioError('invalid', `invalid alias "${name}": not a short name`);
    if (value !== '') checkAliasValue(name, value);
    aliases.set(name, value);
  }
  return aliases;
}

function checkAliasValue(name: string, value: string): void {
  const reference = parseReference(value);
  if (isShortName(value) || reference.tag !== undefined || reference.digest !== undefined) {
    throw new CrioError(
      'invalid',
      `invalid value "${value}" for alias "${name}": must be a repository with its registry, without tag or digest`,
    );
  }
}

/** A registry or a namespace of one; no scheme, no trailing slash. */
function parseLocation(text: string): string {
  const trimmed = text.replace(/\/+$/, '');
  if (trimmed === '') throw new CrioError('invalid', 'invalid location: cannot be empty');
  if (/^https?:\/\//.test(trimmed))
    throw new CrioError('invalid', `invalid location "${text}": URI schemes are not supported`);
  return trimmed;
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw wrap(`read registries configuration "${path}"`, error);
  }
}

async function dropIns(dirs: readonly string[]): Promise<readonly string[]> {
  const files: string[] = [];
  for (const dir of dirs) {
    try {
      const names = await readdir(dir);
      files.push(
        ...names
          .filter((name) => name.endsWith('.conf'))
          .toSorted()
          .map((name) => join(dir, name)),
      );
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw wrap(`read folder "${dir}"`, error);
    }
  }
  return files;
}
