import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, hasCode, messageOf, wrap } from '../../base/errors.ts';
import { compareBytes } from '../../base/go-json.ts';
import type { Logger } from '../../base/log.ts';
import {
  parseNetworkFile,
  parseObject,
  parsePlugin,
  type NetworkList,
  type ParsedList,
  type PluginConfig,
} from './network-list.ts';
import type { PluginFiles } from './plugin-files.ts';
import { effectiveVersion } from './version.ts';

export interface Networks {
  readonly byName: ReadonlyMap<string, NetworkList>;
  /** Name of the first accepted file; undefined when there is none. */
  readonly first: string | undefined;
  /** Why files are not used, by path. */
  readonly ignored: ReadonlyMap<string, Ignored>;
}

export interface Ignored {
  readonly level: 'info' | 'warn';
  readonly text: string;
}

export interface DiscoveryOptions {
  readonly networkDir: string;
  readonly plugins: PluginFiles;
  /** Versions that a plugin binary supports */
  versionsOf(file: string): Promise<readonly string[]>;
  readonly log: Logger;
}

/** Configurations are written by administrators and network add-ons; none comes near this. */
const maxFileBytes = 1 << 20;

/** Reads every configuration in bytewise order of file names. What cannot be used is skipped; the caller tells why, as it reads often. */
export async function discoverNetworks(options: DiscoveryOptions): Promise<Networks> {
  const byName = new Map<string, NetworkList>();
  const ignored = new Map<string, Ignored>();
  let first: string | undefined;
  for (const file of await configurationFiles(options.networkDir)) {
    try {
      const list = await loadNetwork(file, options);
      first ??= list.name;
      if (byName.has(list.name)) {
        const text = `CNI network ${list.name} of ${file} ignored: an earlier file has the name`;
        ignored.set(file, { level: 'info', text });
        continue;
      }
      byName.set(list.name, list);
      options.log.debug(() => `Found CNI network ${list.name} (type=${list.plugins[0]?.type ?? ''}) at ${file}`);
    } catch (error) {
      ignored.set(file, { level: 'warn', text: `Error validating CNI config file ${file}: ${messageOf(error)}` });
    }
  }
  return { byName, first, ignored };
}

/** One file, complete and checked against its plugins. */
async function loadNetwork(file: string, options: DiscoveryOptions): Promise<NetworkList> {
  const parsed = parseNetworkFile(file, await readLimited(file));
  const list = await appendPlugins(parsed, options.networkDir);
  await checkPlugins(list, options);
  return list;
}

/** Unless the list says no, every `<dir>/<network>/*.conf` is one more plugin, in order of names. */
async function appendPlugins(list: ParsedList, networkDir: string): Promise<NetworkList> {
  if (list.loadOnlyInlinedPlugins) return list;
  const plugins = [...list.plugins, ...(await pluginsOfDirectory(networkDir, list.name))];
  if (plugins.length === 0) throw new CrioError('invalid', 'error parsing configuration list: no plugins in list');
  return { ...list, plugins };
}

async function pluginsOfDirectory(networkDir: string, network: string): Promise<PluginConfig[]> {
  // The name is checked for real before ADD; here it must only not lead out of the folder.
  if (network.includes('/') || network === '.' || network === '..') return [];
  const directory = join(networkDir, network);
  const names = (await listFiles(directory)).filter((name) => name.endsWith('.conf'));
  return Promise.all(
    names.map(async (name) => {
      const path = join(directory, name);
      try {
        return parsePlugin(parseObject(await readLimited(path)));
      } catch (error) {
        throw wrap(`load plugin config file "${path}"`, error);
      }
    }),
  );
}

/** All problems of one list together, in brackets. */
async function checkPlugins(list: NetworkList, options: DiscoveryOptions): Promise<void> {
  const wanted = effectiveVersion(list.cniVersion);
  const problems: string[] = [];
  for (const plugin of list.plugins) {
    try {
      const versions = await options.versionsOf(await options.plugins.find(plugin.type));
      if (!versions.includes(wanted)) {
        problems.push(`plugin ${plugin.type} does not support config version "${list.cniVersion}"`);
      }
    } catch (error) {
      problems.push(messageOf(error));
    }
  }
  if (problems.length > 0) throw new CrioError('invalid', `[${problems.join(' ')}]`);
}

async function configurationFiles(directory: string): Promise<string[]> {
  const names = (await listFiles(directory)).filter((name) => /\.(conf|conflist|json)$/.test(name));
  return names.map((name) => join(directory, name));
}

/** Entries that are no folders (links are followed), sorted bytewise. A missing folder is empty. */
async function listFiles(directory: string): Promise<string[]> {
  let entries;
  try {
    entries = await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name)
    .sort(compareBytes);
}

async function readLimited(path: string): Promise<Buffer> {
  const status = await stat(path);
  if (!status.isFile()) throw new CrioError('invalid', `read "${path}": not a regular file`);
  if (status.size > maxFileBytes) throw new CrioError('invalid', `read "${path}": larger than ${maxFileBytes} bytes`);
  return readFile(path);
}
