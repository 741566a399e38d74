import { parseValue } from './value.ts';
import { CrioError } from '../base/errors.ts';
import { emptyHandler, fieldsOf, getOption, groupNames, optionsOf, withOption } from './config.ts';
import type { UncheckedConfig } from './config.ts';
import type { Handler, Workload, WorkloadResources } from './handler.ts';
import { didYouMean } from './nearest.ts';
import { fieldName } from './option.ts';
import type { Option, Options } from './option.ts';
import { groups, handlerOptions, resourceOptions, workloadOptions } from './options.ts';
import type { GroupName } from './options.ts';
import { mergeStorageOptions } from './storage-conf.ts';
import { parseToml, TomlError } from './toml-document.ts';
import type { TomlEntry, TomlNode, TomlTable } from './toml-document.ts';

/** What a configuration file does to the configuration. */
export interface Decoded {
  readonly config: UncheckedConfig;
  /** One line for each unknown key. */
  readonly warnings: readonly string[];
  /** Dotted key (`crio.runtime.log_level`) -> where it was set. */
  readonly origins: ReadonlyMap<string, string>;
}

/** Reads one file on top of `base`. Throws CrioError with file, line and column for bad syntax and wrong types. */
export function decodeFile(base: UncheckedConfig, file: string, bytes: Uint8Array): Decoded {
  const decoder = new Decoder(base, file);
  try {
    decoder.decode(parseToml(bytes));
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw decodeError(file, error.line, error.column, undefined, error.message);
  }
  return decoder;
}

function decodeError(file: string, line: number, column: number, key: string | undefined, message: string): CrioError {
  const lastKey = key === undefined ? '' : ` (last key "${key}")`;
  return new CrioError(
    'invalid',
    `unable to decode configuration ${file}: toml: line ${line}, column ${column}${lastKey}: ${message}`,
  );
}

class Decoder implements Decoded {
  config: UncheckedConfig;
  readonly warnings: string[] = [];
  readonly origins = new Map<string, string>();
  readonly #file: string;

  constructor(base: UncheckedConfig, file: string) {
    this.config = base;
    this.#file = file;
  }

  decode(root: TomlTable): void {
    const tables = new Map<string, TomlTable>();
    for (const entry of root.entries.values()) {
      if (entry.key.toLowerCase() === 'crio') this.#collect('crio', entry, tables);
      else this.#warn(entry, entry.key, ['crio']);
    }
    for (const [path, table] of tables) this.#decodeGroup(groupOf(path), table);
  }

  /** Finds the tables of the groups at or below `path`. */
  #collect(path: string, entry: TomlEntry, tables: Map<string, TomlTable>): void {
    const table = this.#table(entry.value, path);
    tables.set(path, table);
    for (const child of table.entries.values()) {
      const sub = subTables(path).find((name) => name === child.key.toLowerCase());
      if (sub !== undefined) this.#collect(`${path}.${sub}`, child, tables);
    }
  }

  #decodeGroup(group: GroupName, table: TomlTable): void {
    const { table: path } = groups[group];
    for (const entry of table.entries.values()) {
      if (subTables(path).includes(entry.key.toLowerCase())) continue;
      const known = findOption(optionsOf(group), entry.key, table);
      if (known === undefined) this.#warn(entry, `${path}.${entry.key}`, [...keysOf(group), ...subTables(path)], group);
      else this.#set(group, known[0], known[1], entry);
    }
  }

  #set(group: GroupName, key: string, option: Option, entry: TomlEntry): void {
    const path = `${groups[group].table}.${key}`;
    const value = this.#value(option, entry.value, path);
    const merged = mergeOption(this.config, group, key, option, value);
    this.config = withOption(this.config, group, key, option, merged);
    this.origins.set(path, `${this.#file}:${entry.line}`);
  }

  #value(option: Option, node: TomlNode, path: string): unknown {
    switch (option.type) {
      case 'handlers':
        return this.#entries<Handler>(node, path, handlerOptions, emptyHandler());
      case 'workloads':
        return this.#entries<Workload>(node, path, workloadOptions, fieldsOf<Workload>(workloadOptions));
      case 'resources':
        return this.#fields(
          this.#table(node, path),
          path,
          resourceOptions,
          fieldsOf<WorkloadResources>(resourceOptions),
        );
      case 'string-map':
        return this.#stringMap(node, path);
      case 'strings':
        return this.#list(node, path);
      default:
        return this.#scalar(option, node, path);
    }
  }

  /** A table of tables; an entry starts from zero values, whatever an earlier file said about it. */
  #entries<T extends object>(node: TomlNode, path: string, options: Options, empty: T): ReadonlyMap<string, T> {
    const result = new Map<string, T>();
    for (const { key, value } of this.#table(node, path).entries.values()) {
      const entryPath = `${path}.${key}`;
      result.set(key, this.#fields(this.#table(value, entryPath), entryPath, options, empty));
    }
    return result;
  }

  #fields<T extends object>(table: TomlTable, path: string, options: Options, empty: T): T {
    const fields: Record<string, unknown> = Object.fromEntries(Object.entries(empty));
    for (const entry of table.entries.values()) {
      const known = findOption(Object.entries(options), entry.key, table);
      const entryPath = `${path}.${entry.key}`;
      if (known === undefined) this.#warn(entry, entryPath, Object.keys(options));
      else {
        fields[fieldName(known[0], known[1])] = this.#value(known[1], entry.value, entryPath);
        this.origins.set(`${path}.${known[0]}`, `${this.#file}:${entry.line}`);
      }
    }
    // Only fields of T, with values of the types in its table, were replaced.
    return fields as T;
  }

  #stringMap(node: TomlNode, path: string): ReadonlyMap<string, string> {
    const entries = [...this.#table(node, path).entries.values()];
    return new Map(entries.map(({ key, value }) => [key, this.#string(value, `${path}.${key}`)]));
  }

  #list(node: TomlNode, path: string): readonly string[] {
    if (node.kind !== 'array') throw this.#wrongType(node, path, 'array of strings');
    return node.items.map((item) => this.#string(item, path));
  }

  #scalar(option: Option, node: TomlNode, path: string): unknown {
    if (option.type === 'bool' && node.kind === 'boolean') return node.value;
    if (option.type === 'string' && node.kind === 'string') return node.value;
    if (option.type === 'duration') return this.#duration(node, path);
    if (node.kind === 'integer' && (option.type === 'int' || option.type === 'uint')) {
      return this.#integer(node.value, option.type, node, path);
    }
    throw this.#wrongType(node, path, typeName[option.type] ?? option.type);
  }

  #duration(node: TomlNode, path: string): number {
    if (node.kind === 'integer') return this.#integer(node.value, 'int', node, path) / 1e6;
    const text = this.#string(node, path, 'duration, as "5s" or as integer nanoseconds');
    const ms = parseValue('duration', text);
    if (typeof ms === 'number') return ms;
    throw decodeError(this.#file, node.line, node.column, path, `time: invalid duration "${text}"`);
  }

  #integer(value: bigint, type: 'int' | 'uint', node: TomlNode, path: string): number {
    const fits =
      type === 'int' ? BigInt.asIntN(64, value) === value : value >= 0n && BigInt.asUintN(64, value) === value;
    if (fits) return Number(value);
    throw decodeError(this.#file, node.line, node.column, path, `${value} is out of range for ${type}64`);
  }

  #string(node: TomlNode, path: string, wanted = 'string'): string {
    if (node.kind === 'string') return node.value;
    throw this.#wrongType(node, path, wanted);
  }

  #table(node: TomlNode, path: string): TomlTable {
    if (node.kind === 'table') return node;
    throw this.#wrongType(node, path, 'table');
  }

  #wrongType(node: TomlNode, path: string, wanted: string): CrioError {
    const message = `incompatible types: TOML value has type ${node.kind}; destination has type ${wanted}`;
    return decodeError(this.#file, node.line, node.column, path, message);
  }

  #warn(entry: TomlEntry, path: string, known: readonly string[], group?: GroupName): void {
    const hint = hintFor(entry.key, known, group);
    this.warnings.push(`${this.#file}:${entry.line}: unknown key "${path}" is ignored${hint}`);
  }
}

const typeName: Partial<Record<Option['type'], string>> = { bool: 'boolean', int: 'integer', uint: 'integer' };

/** A nearby key of the same table, or the table in which this key does exist. */
function hintFor(key: string, known: readonly string[], group: GroupName | undefined): string {
  const home = group === undefined ? undefined : groupNames.find((name) => keysOf(name).includes(key.toLowerCase()));
  if (home !== undefined) return `; it belongs to [${groups[home].table}]`;
  return didYouMean(key, known);
}

function mergeOption(config: UncheckedConfig, group: GroupName, key: string, option: Option, value: unknown): unknown {
  const earlier = getOption(config, group, key, option);
  if (group === 'crio') {
    // An empty value keeps what storage.conf or an earlier file said; lists of options add up.
    if ((key === 'root' || key === 'runroot' || key === 'storage_driver') && value === '') return earlier;
    if (key === 'storage_option') return mergeStorageOptions(config.crio.storageOption, value as readonly string[]);
  }
  if (earlier instanceof Map && value instanceof Map) return new Map<unknown, unknown>([...earlier, ...value]);
  return value;
}

/** Matched exactly first, then in any case, unless the file also has the exact spelling. */
function findOption(
  options: readonly (readonly [string, Option])[],
  key: string,
  table: TomlTable,
): readonly [string, Option] | undefined {
  const exact = options.find(([name]) => name === key);
  if (exact !== undefined) return exact;
  return options.find(([name]) => name === key.toLowerCase() && !table.entries.has(name));
}

function keysOf(group: GroupName): readonly string[] {
  return optionsOf(group).map(([key]) => key);
}

/** Names of the tables of groups directly below `path`. */
function subTables(path: string): readonly string[] {
  const prefix = `${path}.`;
  return Object.values(groups)
    .filter(({ table }) => table.startsWith(prefix) && !table.slice(prefix.length).includes('.'))
    .map(({ table }) => table.slice(prefix.length));
}

function groupOf(table: string): GroupName {
  const found = groupNames.find((name) => groups[name].table === table);
  if (found === undefined) throw new CrioError('internal', `no group of options for table "${table}"`);
  return found;
}
