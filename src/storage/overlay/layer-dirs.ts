import { randomBytes } from 'node:crypto';
import {
  readdir as readdirCallback,
  readFile as readFileCallback,
  readlink as readlinkCallback,
  stat as statCallback,
  symlink as symlinkCallback,
} from 'node:fs';
import { promisify } from 'node:util';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import { pooledCalls } from '../file-calls.ts';
import type { FileCalls } from '../file-calls.ts';
import { syncPath, writeNewFile } from '../index/atomic-write.ts';
import type { LayerAbove } from '../layers-above.ts';
import { removeTree } from '../remove-tree.ts';

const readFile: (path: string, encoding: 'utf8') => Promise<string> = promisify(readFileCallback);
const readdir: (path: string) => Promise<string[]> = promisify(readdirCallback);
const readlink = promisify(readlinkCallback);
const stat = promisify(statCallback);
const symlink: (target: string, path: string) => Promise<void> = promisify(symlinkCallback);

/** Mode, owner and the `lower` line that children of a layer get. */
export interface ParentFacts {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Short name of the parent, then those of its own lowers: `l/A:l/B`. */
  readonly lower: string;
}

const rootMode = 0o555;
const shortPath = /^l\/[A-Z2-7]{26}$/;
/** 26 characters of standard base32 from 17 random bytes. */
const linkLength = 26;

export function newShortLink(): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  let bits = 0n;
  for (const byte of randomBytes(17)) bits = (bits << 8n) | BigInt(byte);
  let name = '';
  for (let at = 0; at < linkLength; at++) {
    name += alphabet[Number((bits >> BigInt(17 * 8 - 5 * (at + 1))) & 31n)] ?? '';
  }
  return name;
}

/** Reads what a child needs of its parent; a lost `link` file is rebuilt from the symlink. */
export async function readParent(home: string, parent: string): Promise<ParentFacts> {
  try {
    const folder = `${home}/${parent}`;
    const [stats, link, lower] = await Promise.all([stat(`${folder}/diff`), readLink(home, parent), readLower(folder)]);
    return {
      mode: stats.mode & 0o7777,
      uid: stats.uid,
      gid: stats.gid,
      lower: lower === '' ? `l/${link}` : `l/${link}:${lower}`,
    };
  } catch (error) {
    throw wrap(`read layer "${parent}"`, error, hasCode(error, 'ENOENT') ? 'not-found' : undefined);
  }
}

/** The colon list of short names below this layer; empty for a base layer. */
export async function readLower(folder: string): Promise<string> {
  try {
    return (await readFile(`${folder}/lower`, 'utf8')).trim();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}

/** The short name that layers above one, in any of these homes, know it by; undefined when there are none. */
export async function nameForAbove(
  homes: readonly string[],
  above: readonly LayerAbove[],
): Promise<string | undefined> {
  for (const home of homes) {
    for (const { id, depth } of above) {
      const name = (await readLower(`${home}/${id}`)).split(':')[depth - 1];
      if (name !== undefined && shortPath.test(name)) return name.slice('l/'.length);
    }
  }
  return undefined;
}

async function readLink(home: string, id: string): Promise<string> {
  try {
    const link = (await readFile(`${home}/${id}/link`, 'utf8')).trim();
    if (/^[A-Z2-7]{26}$/.test(link)) return link;
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
  return rebuildLink(home, id);
}

async function rebuildLink(home: string, id: string): Promise<string> {
  for (const [name, owner] of await shortLinks(home)) {
    if (owner !== id) continue;
    await writeNewFile(`${home}/${id}/link`, Buffer.from(name), { mode: 0o644 });
    return name;
  }
  throw new CrioError('not-found', `layer "${id}" has no short name`);
}

/**
 * Makes the folders of a layer: `diff` with mode and owner of the parent's, the short name, `lower`, `work`, `merged`.
 * `content` replaces `diff`. Returns the short name.
 */
export async function createLayerDirs(options: {
  home: string;
  id: string;
  parent: ParentFacts | undefined;
  content: string | undefined;
  /** The short name, when layers above know it by one. */
  link?: string | undefined;
  calls: FileCalls;
}): Promise<string> {
  const { home, id, parent, content, link = newShortLink(), calls } = options;
  const folder = `${home}/${id}`;
  await makeFresh(folder, calls);
  const owner = { uid: parent?.uid ?? 0, gid: parent?.gid ?? 0 };
  const made = await Promise.allSettled([
    content === undefined
      ? makeFolder(`${folder}/diff`, parent?.mode ?? rootMode, owner, calls)
      : calls.rename(content, `${folder}/diff`),
    makeFolder(`${folder}/work`, 0o700, owner, calls),
    makeFolder(`${folder}/merged`, 0o700, owner, calls),
    parent === undefined
      ? calls.mkdir(`${folder}/empty`, 0o700)
      : writeNewFile(`${folder}/lower`, Buffer.from(parent.lower), { mode: 0o644, calls }),
    writeNewFile(`${folder}/link`, Buffer.from(link), { mode: 0o644, calls }),
    calls.symlink(`../${id}/diff`, `${home}/l/${link}`),
  ]);
  for (const result of made) {
    if (result.status === 'fulfilled') continue;
    // Without the `link` file nobody would know whose it is.
    await removeTree(`${home}/l/${link}`).catch(() => undefined);
    throw result.reason;
  }
  return link;
}

/**
 * Makes the folders of layers durable. Their small files are synced one by one: a file system may write its journal, and
 * with it the names, before it gives them blocks, and then they are empty after a power cut.
 */
export async function syncLayerDirs(home: string, ids: readonly string[]): Promise<void> {
  const files = ids.flatMap((id) => [`${home}/${id}/link`, `${home}/${id}/lower`]);
  await Promise.all(files.map((file) => syncPath(file).catch(ignoreMissing)));
  await Promise.all([...ids.map((id) => `${home}/${id}`), `${home}/l`, home].map(syncPath));
}

function ignoreMissing(error: unknown): void {
  if (!hasCode(error, 'ENOENT')) throw error;
}

/** Leftovers of an earlier attempt with this id go first: no index names them. */
async function makeFresh(folder: string, calls: FileCalls): Promise<void> {
  try {
    await calls.mkdir(folder, 0o700);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    await removeTree(folder);
    await calls.mkdir(folder, 0o700);
  }
}

/** The mode is set whatever the umask says. */
export async function makeFolder(
  path: string,
  mode: number,
  owner: { uid: number; gid: number },
  calls: FileCalls = pooledCalls,
): Promise<void> {
  await calls.mkdir(path, mode);
  if ((mode & 0o022) !== 0 || mode > 0o777) await calls.chmod(path, mode);
  if (owner.uid !== 0 || owner.gid !== 0) await calls.chown(path, owner.uid, owner.gid);
}

/** The short name in the `link` file, for deletion; undefined when it cannot be told. */
export async function shortLinkOf(home: string, id: string): Promise<string | undefined> {
  try {
    const link = (await readFile(`${home}/${id}/link`, 'utf8')).trim();
    return /^[A-Z2-7]{26}$/.test(link) ? link : undefined;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** Every short name with the id of its layer. */
export async function shortLinks(home: string): Promise<ReadonlyMap<string, string>> {
  const links = new Map<string, string>();
  for (const name of await readdir(`${home}/l`)) {
    const id = /^\.\.\/([a-f0-9]{64})\/diff$/.exec(await readlink(`${home}/l/${name}`))?.[1];
    if (id !== undefined) links.set(name, id);
  }
  return links;
}

/** Makes missing symlinks of all layers again from their `link` files. */
export async function repairShortLinks(home: string, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    const link = await shortLinkOf(home, id);
    if (link === undefined) continue;
    try {
      await symlink(`../${id}/diff`, `${home}/l/${link}`);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
  }
}
