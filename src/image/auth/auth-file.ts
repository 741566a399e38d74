import { readFile } from 'node:fs/promises';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import { JsonReader, parseLooseJson } from '../json.ts';
import { repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { anonymous, isAnonymous } from './resolved-credentials.ts';
import type { ResolvedCredentials } from './resolved-credentials.ts';

/** containers-auth.json(5), or a Docker config.json. */
export interface AuthFile {
  readonly path: string;
  /** Keys are registries or namespaces in them. An entry is read when it is asked for: those of others may be broken. */
  readonly auths: JsonReader | undefined;
  /** Registry to helper name. */
  readonly helpers: ReadonlyMap<string, string>;
  /** Docker's `credsStore`; empty for none. */
  readonly defaultHelper: string;
  /** It says something, but nothing that is read here: `auth` in place of `auths`, say. */
  readonly isForeign: boolean;
}

/** Undefined when the file does not exist. */
export async function readAuthFile(path: string): Promise<AuthFile | undefined> {
  let data;
  try {
    data = await readFile(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw wrap(`read auth file "${path}"`, error);
  }
  return parseAuthFile(data, path);
}

/** For a file that somebody named for one pull: it must be there. */
export async function requireAuthFile(path: string): Promise<void> {
  if ((await readAuthFile(path)) === undefined)
    throw new CrioError('invalid', `read auth file "${path}": no such file`);
}

export function parseAuthFile(data: Uint8Array, path: string): AuthFile {
  const what = `auth file "${path}"`;
  const reader = new JsonReader(data.length === 0 ? new Map() : parseLooseJson(data, what), what);
  // The old `.dockercfg` is the inner object alone.
  const auths = reader.has('auths') || !path.endsWith('.dockercfg') ? reader.object('auths') : reader;
  const helpers = reader.stringMap('credHelpers');
  const isForeign = auths !== reader && reader.keys.length > 0 && !readKeys.some((key) => reader.has(key));
  return { path, auths, helpers, defaultHelper: reader.string('credsStore') ?? '', isForeign };
}

const readKeys = ['auths', 'credHelpers', 'credsStore'];

/** The entry for the repository, its namespaces from the longest to the shortest, or its registry. */
export function findInAuthFile(file: AuthFile, reference: Reference): ResolvedCredentials | undefined {
  let key = repositoryOf({ ...reference, domain: authDomain(reference.domain) });
  for (;;) {
    const entry = readEntries(file, key);
    if (entry !== undefined) return entry;
    const slash = key.lastIndexOf('/');
    if (slash < 0) return undefined;
    key = key.slice(0, slash);
  }
}

/** The first entry with this normalized key that can be presented, else one whose source says why it cannot. */
function readEntries({ path, auths }: AuthFile, key: string): ResolvedCredentials | undefined {
  let unusable: ResolvedCredentials | undefined;
  for (const name of auths?.keys ?? []) {
    if (registryKey(name) !== key) continue;
    const entry = auths?.object(name);
    const credentials = entry && readEntry(entry, `auth file "${path}", entry "${name}"`);
    if (credentials !== undefined && !isAnonymous(credentials)) return credentials;
    unusable ??= credentials;
  }
  return unusable;
}

/** Docker Hub goes by several names: one key for all. Older files have URLs as keys. */
export function registryKey(text: string): string {
  const withoutScheme = text.replace(/^https?:\/\//, '');
  const isUrl = withoutScheme !== text;
  const name =
    isUrl || /\/v[12]\/?$/.test(withoutScheme)
      ? (withoutScheme.split('/', 1)[0] ?? '')
      : withoutScheme.replace(/\/+$/, '');
  const slash = name.indexOf('/');
  const domain = slash < 0 ? name : name.slice(0, slash);
  return `${authDomain(domain)}${slash < 0 ? '' : name.slice(slash)}`;
}

export function authDomain(domain: string): string {
  return ['index.docker.io', 'registry-1.docker.io', 'docker.io'].includes(domain) ? 'docker.io' : domain;
}

function readEntry(entry: JsonReader, source: string): ResolvedCredentials | undefined {
  const identityToken = entry.string('identitytoken') ?? '';
  const registryToken = entry.string('registrytoken') ?? '';
  const auth = entry.string('auth') ?? '';
  const user =
    auth === ''
      ? { username: entry.string('username') ?? '', password: entry.string('password') ?? '' }
      : decodeAuth(auth);
  // As the other container tools, on without it: the image may be a public one.
  if (user === undefined)
    return { ...anonymous, source: `no credentials: ${source}: auth is not base64 of "user:password"` };
  const credentials = { ...user, identityToken, registryToken, source };
  return isAnonymous(credentials) ? undefined : credentials;
}

/** base64 of `user:password`; undefined when it is not. */
function decodeAuth(auth: string): { username: string; password: string } | undefined {
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 0) return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
}
