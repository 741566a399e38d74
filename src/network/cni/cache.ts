import { mkdir, open, readFile, readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { hasCode } from '../../base/errors.ts';
import { goJson, isJsonArray, isJsonObject } from '../../base/go-json.ts';
import type { Attachment } from './chain.ts';
import { parseList, type NetworkList } from './network-list.ts';
import { formatResult, readResult, type CniResult } from './result.ts';

/**
 * Attachments on disk in the format of the CNI library, so that CRI-O and this runtime can undo each other's. The file
 * is there before ADD runs, without a result: a daemon killed in the middle finds at its next start what to undo.
 */
export interface CachedAttachment {
  readonly file: string;
  readonly network: string;
  readonly attachment: Attachment;
  /** Undefined in a legacy or damaged file, and when the list has no inline plugin. */
  readonly list: NetworkList | undefined;
  readonly result: CniResult | undefined;
}

const temporaryPrefix = '.tmp-';

export class AttachmentCache {
  readonly #directory: string;

  /** `cacheDir` is `/var/lib/cni` in the field. */
  constructor(cacheDir: string) {
    this.#directory = join(cacheDir, 'results');
  }

  fileOf(network: string, containerId: string, ifName: string): string {
    return join(this.#directory, `${network}-${containerId}-${ifName}`);
  }

  /**
   * Records an attachment that is about to be made. Written in place: a file that a crash cut short stands for a plugin
   * that has not run yet.
   */
  async writeIntent(list: NetworkList, attachment: Attachment): Promise<void> {
    const file = this.fileOf(list.name, attachment.containerId, attachment.ifName);
    await this.#writeFile(file, formatCacheFile(list, attachment, undefined));
  }

  /** Records what the plugins have answered. */
  async write(list: NetworkList, attachment: Attachment, result: CniResult): Promise<void> {
    const temporary = join(this.#directory, `${temporaryPrefix}${attachment.containerId}-${attachment.ifName}`);
    await this.#writeFile(temporary, formatCacheFile(list, attachment, result));
    await rename(temporary, this.fileOf(list.name, attachment.containerId, attachment.ifName));
  }

  /** Attachments of one pod; those of the loopback interface are none. */
  async ofContainer(containerId: string): Promise<CachedAttachment[]> {
    const names = (await this.#names()).filter((name) => name.includes(`-${containerId}-`));
    const entries = await this.#readAll(names);
    return entries.filter((entry) => entry.attachment.containerId === containerId && !isLoopback(entry));
  }

  async all(): Promise<CachedAttachment[]> {
    const entries = await this.#readAll(await this.#names());
    return entries.filter((entry) => !isLoopback(entry));
  }

  async remove(file: string): Promise<void> {
    await rm(file, { force: true });
  }

  /** Removes every file whose name holds the id, readable or not. */
  async removeContainer(containerId: string): Promise<void> {
    const names = (await this.#names()).filter((name) => name.includes(containerId));
    for (const name of names) await this.remove(join(this.#directory, name));
  }

  /** Removes what a write that was cut short left behind. */
  async removeTemporaries(): Promise<void> {
    for (const name of await this.#listDirectory()) {
      if (name.startsWith(temporaryPrefix)) await this.remove(join(this.#directory, name));
    }
  }

  async #writeFile(path: string, text: string): Promise<void> {
    try {
      await writeSmallFile(path, text);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await writeSmallFile(path, text);
    }
  }

  async #names(): Promise<string[]> {
    return (await this.#listDirectory()).filter((name) => !name.startsWith('.'));
  }

  async #listDirectory(): Promise<string[]> {
    try {
      return await readdir(this.#directory);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
  }

  async #readAll(names: readonly string[]): Promise<CachedAttachment[]> {
    const entries = await Promise.all(names.map((name) => this.#read(join(this.#directory, name))));
    return entries.filter((entry) => entry !== undefined);
  }

  /** Of a file that was cut short or is of the legacy kind the name is left, which is enough for DEL. */
  async #read(file: string): Promise<CachedAttachment | undefined> {
    try {
      const entry = parseCacheFile(file, await readFile(file, 'utf8'));
      if (entry !== undefined) return entry;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
    }
    return parseCacheName(file);
  }
}

/** Every step is a round trip through the thread pool, and the pod waits for it; nobody needs to wait for the close. */
async function writeSmallFile(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(text);
  } finally {
    file.close().catch(() => undefined);
  }
}

/** The file's text: one JSON object, empty members left out. Pure. */
export function formatCacheFile(list: NetworkList, attachment: Attachment, result: CniResult | undefined): string {
  const members: [string, unknown][] = [
    ['kind', 'cniCacheV1'],
    ['containerId', attachment.containerId],
    ['config', list.bytes.toString('base64')],
    ['ifName', attachment.ifName],
    ['networkName', list.name],
    ['netns', attachment.netns === '' ? undefined : attachment.netns],
    ['cniArgs', attachment.args.length === 0 ? undefined : attachment.args],
    ['capabilityArgs', Object.keys(attachment.capabilities).length === 0 ? undefined : attachment.capabilities],
    ['result', result === undefined ? undefined : formatResult(result, result.cniVersion)],
  ];
  const written = members.filter(([, value]) => value !== undefined);
  return `{${written.map(([key, value]) => `"${key}":${goJson(value)}`).join(',')}}`;
}

/** Reads a cache file; keys in any case. Undefined when it names no container (a legacy file holds only a result). */
export function parseCacheFile(file: string, text: string): CachedAttachment | undefined {
  const value: unknown = JSON.parse(text);
  if (!isJsonObject(value)) return undefined;
  const object = Object.fromEntries(Object.entries(value).map(([key, member]) => [key.toLowerCase(), member]));
  const word = (key: string): string => (typeof object[key] === 'string' ? object[key] : '');
  if (word('kind') !== 'cniCacheV1' || word('containerid') === '') return undefined;
  const list = parseCachedList(word('config'));
  const capabilities = object['capabilityargs'];
  return {
    file,
    network: word('networkname'),
    attachment: {
      containerId: word('containerid'),
      netns: word('netns'),
      ifName: word('ifname'),
      args: parseArgs(object['cniargs']),
      capabilities: isJsonObject(capabilities) ? capabilities : {},
    },
    list,
    result: parseCachedResult(object['result'], list?.cniVersion ?? ''),
  };
}

/** An attachment from `<network>-<containerID>-<ifname>`; undefined when the id is no pod's. */
export function parseCacheName(file: string): CachedAttachment | undefined {
  const [, network, containerId, ifName] = /^(.+)-([0-9a-f]{64})-(.+)$/.exec(basename(file)) ?? [];
  if (network === undefined || containerId === undefined || ifName === undefined) return undefined;
  const attachment = { containerId, netns: '', ifName, args: [], capabilities: {} };
  return { file, network, attachment, list: undefined, result: undefined };
}

/** Undefined for a list whose plugins are all in other files: those are not in the cached bytes. */
function parseCachedList(base64: string): NetworkList | undefined {
  try {
    const list = parseList(Buffer.from(base64, 'base64'));
    return list.plugins.length === 0 ? undefined : list;
  } catch {
    return undefined;
  }
}

function parseCachedResult(value: unknown, version: string): CniResult | undefined {
  if (!isJsonObject(value)) return undefined;
  try {
    return readResult(value, version);
  } catch {
    return undefined;
  }
}

function parseArgs(value: unknown): [string, string][] {
  if (!isJsonArray(value)) return [];
  return value.flatMap((pair): [string, string][] => {
    if (!isJsonArray(pair)) return [];
    const [key, word] = pair;
    return typeof key === 'string' && typeof word === 'string' ? [[key, word]] : [];
  });
}

function isLoopback(entry: { network: string; attachment: { ifName: string } }): boolean {
  return entry.network === 'cni-loopback' || entry.attachment.ifName === 'lo';
}
