import { existsFile } from './host.ts';
import { CrioError, hasCode, messageOf } from '../base/errors.ts';
import { didYouMean } from './nearest.ts';
import { parseToml, TomlError } from './toml-document.ts';
import type { TomlEntry, TomlNode, TomlTable } from './toml-document.ts';
import type { Host } from './host.ts';

/** What containers/storage's own configuration says, for options that crio.conf leaves open. */
export interface StorageDefaults {
  readonly root: string;
  readonly runroot: string;
  readonly imagestore: string;
  readonly driver: string;
  readonly options: readonly string[];
}

const builtIn: StorageDefaults = {
  root: '/var/lib/containers/storage',
  runroot: '/run/containers/storage',
  imagestore: '',
  driver: '',
  options: [],
};

/** Keys of `[storage.options]` and `[storage.options.<driver>]` that become driver options, in this order. */
const driverKeys = [
  'ignore_chown_errors',
  'mount_program',
  'mountopt',
  'size',
  'inodes',
  'skip_mount_home',
  'force_mask',
  'use_composefs',
];

/** What containers-storage.conf(5) has besides, by table; the tables of other drivers are not looked at. */
const knownKeys: ReadonlyMap<string, readonly string[]> = new Map([
  ['', ['storage']],
  [
    'storage',
    'driver driver_priority graphroot imagestore options rootless_storage_path runroot transient_store'.split(' '),
  ],
  [
    'storage.options',
    [
      ...driverKeys,
      ...'additionalimagestores additionallayerstores auto-userns-max-size auto-userns-min-size disable-volatile imagestore'.split(
        ' ',
      ),
      ...'override_kernel_check pull_options remap-gids remap-group remap-uids remap-user root-auto-userns-user'.split(
        ' ',
      ),
      ...'aufs btrfs overlay thinpool vfs zfs'.split(' '),
    ],
  ],
  ['storage.options.overlay', [...driverKeys, 'override_kernel_check', 'sync']],
]);

/** Reads storage.conf; `STORAGE_DRIVER` and `STORAGE_OPTS` replace driver and options. */
export function loadStorageDefaults(host: Host): StorageDefaults {
  const file = findStorageConf(host);
  const fromFile = file === undefined ? builtIn : readStorageConf(file, host);
  const driver = host.env['STORAGE_DRIVER'];
  const options = host.env['STORAGE_OPTS'];
  return {
    ...fromFile,
    driver: driver === undefined || driver === '' ? fromFile.driver : driver,
    options: options === undefined || options === '' ? fromFile.options : options.split(','),
  };
}

/** One line for each key of storage.conf that nobody reads, or that does not do what it says. Never throws for a file that cannot be read: others do. */
export function storageWarnings(host: Host): readonly string[] {
  const file = findStorageConf(host);
  if (file === undefined) return [];
  try {
    const document = parseToml(host.readFile(file));
    const unknown = unknownKeys(document, '').map(
      ({ entry, path, known }) =>
        `${file}:${entry.line}: unknown key "${path}" is ignored${didYouMean(entry.key, known)}`,
    );
    return [...unknown, ...withoutEffect(tableAt(document, 'storage')).map((text) => `${file}:${text}`)];
  } catch {
    return [];
  }
}

/** Keys that the manual has and that ask for something else than what happens. */
function withoutEffect(storage: TomlTable | undefined): readonly string[] {
  const [first = 'overlay'] = stringsAt(storage, 'driver_priority');
  const isChosen = nonEmpty(stringAt(storage, 'driver')) !== undefined;
  const reasons = new Map<string, string>();
  if (first !== 'overlay' && !isChosen)
    reasons.set('driver_priority', 'the driver is overlay unless "driver" names one');
  if (isTrue(storage, 'transient_store'))
    reasons.set('transient_store', 'records of containers stay in the graph root');
  return [...reasons].map(
    ([key, reason]) => `${nodeAt(storage, key)?.line}: "storage.${key}" has no effect: ${reason}`,
  );
}

interface UnknownKey {
  readonly entry: TomlEntry;
  readonly path: string;
  readonly known: readonly string[];
}

function unknownKeys(table: TomlTable, path: string): readonly UnknownKey[] {
  const known = knownKeys.get(path);
  if (known === undefined) return [];
  return [...table.entries.values()].flatMap((entry): readonly UnknownKey[] => {
    const below = path === '' ? entry.key : `${path}.${entry.key}`;
    if (!known.includes(entry.key.toLowerCase())) return [{ entry, path: below, known }];
    return entry.value.kind === 'table' ? unknownKeys(entry.value, below.toLowerCase()) : [];
  });
}

function findStorageConf(host: Host): string | undefined {
  const named = host.env['CONTAINERS_STORAGE_CONF'];
  if (named !== undefined && named !== '') return named;
  const home = host.env['XDG_CONFIG_HOME'];
  const candidates = ['/etc/containers/storage.conf', '/usr/share/containers/storage.conf'];
  if (home !== undefined && home !== '') candidates.unshift(`${home}/containers/storage.conf`);
  return candidates.find((path) => existsFile(host, path));
}

function readStorageConf(file: string, host: Host): StorageDefaults {
  try {
    return parseStorageConf(host.readFile(file));
  } catch (error) {
    const place = error instanceof TomlError ? `line ${error.line}, column ${error.column}: ` : '';
    if (hasCode(error, 'ENOENT'))
      throw new CrioError('not-found', `read storage configuration "${file}": no such file`);
    throw new CrioError('invalid', `read storage configuration "${file}": ${place}${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Unknown keys and values of other types are left alone: other tools own this file. */
export function parseStorageConf(bytes: Uint8Array): StorageDefaults {
  const storage = tableAt(parseToml(bytes), 'storage');
  const options = tableAt(storage, 'options');
  const driver = stringAt(storage, 'driver') ?? '';
  return {
    root: nonEmpty(stringAt(storage, 'graphroot')) ?? builtIn.root,
    runroot: nonEmpty(stringAt(storage, 'runroot')) ?? builtIn.runroot,
    imagestore: stringAt(storage, 'imagestore') ?? stringAt(options, 'imagestore') ?? '',
    driver,
    options: driverOptions(driver === '' ? 'overlay' : driver, options),
  };
}

function driverOptions(driver: string, options: TomlTable | undefined): readonly string[] {
  const own = tableAt(options, driver);
  const result = [
    ...stringsAt(options, 'additionalimagestores').map((path) => `${driver}.imagestore=${path}`),
    ...stringsAt(options, 'additionallayerstores').map((path) => `${driver}.additionallayerstore=${path}`),
  ];
  for (const key of driverKeys) {
    const value = nonEmpty(stringAt(own, key)) ?? nonEmpty(stringAt(options, key));
    if (value !== undefined) result.push(`${driver}.${key}=${value}`);
  }
  if (isTrue(options, 'disable-volatile')) result.push(`${driver}.disable-volatile=true`);
  return result;
}

/** Appends, and drops the earlier one of two equal options. */
export function mergeStorageOptions(earlier: readonly string[], later: readonly string[]): readonly string[] {
  const all = [...earlier, ...later];
  return all.filter((option, index) => all.lastIndexOf(option) === index);
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

/** Matched exactly first, then in any case, as the other tools do. */
function nodeAt(table: TomlTable | undefined, key: string): TomlNode | undefined {
  if (table === undefined) return undefined;
  const entry = table.entries.get(key) ?? table.entries.values().find((other) => other.key.toLowerCase() === key);
  return entry?.value;
}

function tableAt(table: TomlTable | undefined, key: string): TomlTable | undefined {
  const node = nodeAt(table, key);
  return node?.kind === 'table' ? node : undefined;
}

function stringAt(table: TomlTable | undefined, key: string): string | undefined {
  const node = nodeAt(table, key);
  return node?.kind === 'string' ? node.value : undefined;
}

/** Written with or without quotes. */
function isTrue(table: TomlTable | undefined, key: string): boolean {
  const node = nodeAt(table, key);
  return (node?.kind === 'boolean' && node.value) || (node?.kind === 'string' && node.value === 'true');
}

function stringsAt(table: TomlTable | undefined, key: string): readonly string[] {
  const node = nodeAt(table, key);
  if (node?.kind !== 'array') return [];
  return node.items.flatMap((item) => (item.kind === 'string' ? [item.value] : []));
}
