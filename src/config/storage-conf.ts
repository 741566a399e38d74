import { existsFile } from './host.ts';
import { CrioError, hasCode, messageOf } from '../base/errors.ts';
import { parseToml, TomlError } from './toml-document.ts';
import type { TomlNode, TomlTable } from './toml-document.ts';
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

function nodeAt(table: TomlTable | undefined, key: string): TomlNode | undefined {
  return table?.entries.get(key)?.value;
}

function tableAt(table: TomlTable | undefined, key: string): TomlTable | undefined {
  const node = nodeAt(table, key);
  return node?.kind === 'table' ? node : undefined;
}

function stringAt(table: TomlTable | undefined, key: string): string | undefined {
  const node = nodeAt(table, key);
  return node?.kind === 'string' ? node.value : undefined;
}

function stringsAt(table: TomlTable | undefined, key: string): readonly string[] {
  const node = nodeAt(table, key);
  if (node?.kind !== 'array') return [];
  return node.items.flatMap((item) => (item.kind === 'string' ? [item.value] : []));
}
