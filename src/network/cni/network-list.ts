import { basename, extname } from 'node:path';
import { CrioError, wrap } from '../../base/errors.ts';
import { goJson, isJsonObject, type Json, type JsonObject } from '../../base/go-json.ts';
import { chooseVersion } from './version.ts';

/** One plugin of a network: the whole object is passed to the plugin, the named fields are read here. */
export interface PluginConfig {
  /** Name of the binary; never holds a slash (CVE-2021-20206). */
  readonly type: string;
  /** The object's own `name`; only error texts use it. */
  readonly name: string;
  /** Capabilities it declares true. */
  readonly capabilities: ReadonlySet<string>;
  readonly object: JsonObject;
}

/** A network configuration list. */
export interface NetworkList {
  readonly name: string;
  readonly cniVersion: string;
  readonly disableCheck: boolean;
  readonly disableGc: boolean;
  readonly plugins: readonly PluginConfig[];
  /** The list as text: the file's own bytes, for a single plugin the generated list. It goes into the cache. */
  readonly bytes: Buffer;
}

/** What a file says, before plugins of the sub-directory are appended. */
export interface ParsedList extends NetworkList {
  readonly loadOnlyInlinedPlugins: boolean;
}

/** Parses a configuration file by its extension: `.conflist`, or one plugin in `.conf` and `.json`. */
export function parseNetworkFile(path: string, bytes: Buffer): ParsedList {
  return extname(path) === '.conflist' ? parseList(bytes) : parseSinglePlugin(path, bytes);
}

/** Parses a list; with `cniVersions` the best version is chosen. */
export function parseList(bytes: Buffer): ParsedList {
  const object = parseObject(bytes);
  const name = stringMember(object, 'name');
  if (name === '') throw new CrioError('invalid', 'error parsing configuration list: no name');
  const loadOnlyInlinedPlugins = flagMember(object, 'loadOnlyInlinedPlugins');
  const list = object['plugins'];
  if (list !== undefined && !Array.isArray(list)) {
    throw new CrioError('invalid', "error parsing configuration list: invalid 'plugins' type");
  }
  const plugins = (list ?? []).map((plugin: Json) => parsePlugin(plugin));
  if (plugins.length === 0 && (list !== undefined || loadOnlyInlinedPlugins)) {
    throw new CrioError('invalid', 'error parsing configuration list: no plugins in list');
  }
  return {
    name,
    cniVersion: chooseVersion(stringMember(object, 'cniVersion'), stringList(object, 'cniVersions')),
    disableCheck: flagMember(object, 'disableCheck'),
    disableGc: flagMember(object, 'disableGC'),
    loadOnlyInlinedPlugins,
    plugins,
    bytes,
  };
}

/** Up-converts a file with one plugin to a list of one. An empty name becomes the file's. */
function parseSinglePlugin(path: string, bytes: Buffer): ParsedList {
  const object = parseObject(bytes);
  const plugin = parsePlugin(object);
  const cniVersion = stringMember(object, 'cniVersion');
  const name = plugin.name === '' ? basename(path) : plugin.name;
  return {
    name,
    cniVersion,
    disableCheck: false,
    disableGc: false,
    loadOnlyInlinedPlugins: true,
    plugins: [plugin],
    bytes: Buffer.from(goJson({ name, cniVersion, plugins: [object] })),
  };
}

/** Parses the object of one plugin. */
export function parsePlugin(value: Json): PluginConfig {
  if (!isJsonObject(value)) throw new CrioError('invalid', 'error parsing plugin configuration: not an object');
  const type = stringMember(value, 'type');
  if (type === '') throw new CrioError('invalid', "error parsing configuration: missing 'type'");
  if (type.includes('/')) throw new CrioError('invalid', `invalid plugin name: ${type}`);
  return { type, name: stringMember(value, 'name'), capabilities: declaredCapabilities(value), object: value };
}

/** Parses JSON text that must be an object. */
export function parseObject(bytes: Buffer): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw wrap('error parsing configuration', error, 'invalid');
  }
  if (!isJsonObject(value)) throw new CrioError('invalid', 'error parsing configuration: not an object');
  return value;
}

/** Names that a plugin must accept before it is run with them (checked before ADD only). */
export function checkAttachment(network: string, containerId: string, ifName: string): void {
  const name = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
  if (!name.test(network)) throw new CrioError('invalid', `invalid characters found in network name ${network}`);
  if (containerId === '') throw new CrioError('invalid', 'missing containerID');
  if (!name.test(containerId)) throw new CrioError('invalid', `invalid characters in containerID ${containerId}`);
  if (!/^[^/:\s]{1,15}$/.test(ifName) || ifName === '.' || ifName === '..') {
    throw new CrioError('invalid', `invalid interface name ${ifName}`);
  }
}

function declaredCapabilities(object: JsonObject): ReadonlySet<string> {
  const capabilities = object['capabilities'];
  if (!isJsonObject(capabilities)) return new Set();
  return new Set(Object.keys(capabilities).filter((name) => capabilities[name] === true));
}

function stringMember(object: JsonObject, key: string): string {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw new CrioError('invalid', `error parsing configuration: invalid ${key} type`);
  return value;
}

function stringList(object: JsonObject, key: string): string[] {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new CrioError('invalid', `error parsing configuration list: invalid ${key} type`);
  return value.filter((item): item is string => typeof item === 'string');
}

/** A bool, or the words true and false in any case. */
function flagMember(object: JsonObject, key: string): boolean {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  if (value === undefined || value === null) return false;
  if (typeof value === 'boolean') return value;
  const word = typeof value === 'string' ? value.toLowerCase() : '';
  if (word === 'true') return true;
  if (word === 'false') return false;
  throw new CrioError('invalid', `error parsing configuration list: invalid value for ${key}`);
}
