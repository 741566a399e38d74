import { join } from 'node:path';
import { wrap } from '../../base/errors.ts';
import { configHome, homeFolder } from '../home-folder.ts';
import { repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { authDomain, findInAuthFile, readAuthFile, registryKey } from './auth-file.ts';
import type { AuthFile } from './auth-file.ts';
import { askHelper } from './helper.ts';
import { isAnonymous } from './resolved-credentials.ts';
import type { ResolvedCredentials } from './resolved-credentials.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** In `credential-helpers` of registries.conf this stands for the auth files. */
const authFiles = 'containers-auth.json';

/** The name that Docker keeps Docker Hub's credentials under; the other container tools use `docker.io`. */
const dockerHubUrl = 'https://index.docker.io/v1/';

export interface CredentialFiles {
  /** Only this file, when set (`global_auth_file`, or one for a namespace). A missing one has no credentials, as with skopeo. */
  readonly explicit: string | undefined;
  /** Read in order when there is no explicit one. */
  readonly defaults: readonly string[];
  /** From registries.conf; undefined for only auth files. */
  readonly helpers: readonly string[] | undefined;
}

/** Where credentials lie when nothing is configured. containers-auth.json(5) */
export function defaultAuthFiles(env: Env, uid: number): readonly string[] {
  const runtimeDir = env['XDG_RUNTIME_DIR'];
  const home = homeFolder(env);
  return [
    runtimeDir === undefined || runtimeDir === ''
      ? `/run/containers/${uid}/auth.json`
      : join(runtimeDir, 'containers/auth.json'),
    join(configHome(env), 'containers/auth.json'),
    join(env['DOCKER_CONFIG'] ?? join(home, '.docker'), 'config.json'),
    join(home, '.dockercfg'),
  ];
}

/** The credentials of the machine for a place; undefined for none. */
export async function findCredentials(
  files: CredentialFiles,
  reference: Reference,
  signal: AbortSignal,
): Promise<ResolvedCredentials | undefined> {
  return firstUsable(files.helpers ?? [authFiles], (helper) =>
    helper === authFiles
      ? findInFiles(files, reference, signal)
      : askHelper(helper, authDomain(reference.domain), signal),
  );
}

function findInFiles(
  files: CredentialFiles,
  reference: Reference,
  signal: AbortSignal,
): Promise<ResolvedCredentials | undefined> {
  return firstUsable(files.explicit === undefined ? files.defaults : [files.explicit], async (path) => {
    const file = await readAuthFile(path);
    return file && findInFile(file, reference, signal);
  });
}

/** The first that can be presented, else the first that says why it cannot. */
async function firstUsable<T>(
  places: readonly T[],
  find: (place: T) => Promise<ResolvedCredentials | undefined>,
): Promise<ResolvedCredentials | undefined> {
  let unusable: ResolvedCredentials | undefined;
  for (const place of places) {
    const found = await find(place);
    if (found !== undefined && !isAnonymous(found)) return found;
    unusable ??= found;
  }
  return unusable;
}

/** A helper named for the registry wins over an entry, as with Docker; Docker's `credsStore` comes last. */
async function findInFile(
  file: AuthFile,
  reference: Reference,
  signal: AbortSignal,
): Promise<ResolvedCredentials | undefined> {
  const helper = helperFor(file, reference);
  if (helper !== undefined) return askHelperOf(file, helper, signal);
  const entry = findInAuthFile(file, reference);
  if (file.defaultHelper === '' || (entry !== undefined && !isAnonymous(entry))) return entry;
  const isHub = authDomain(reference.domain) === 'docker.io';
  const server = isHub ? dockerHubUrl : reference.domain;
  return (await askHelperOf(file, { name: file.defaultHelper, server }, signal)) ?? entry;
}

interface Helper {
  readonly name: string;
  /** What it is asked for. */
  readonly server: string;
}

async function askHelperOf(
  file: AuthFile,
  { name, server }: Helper,
  signal: AbortSignal,
): Promise<ResolvedCredentials | undefined> {
  try {
    const found = await askHelper(name, server, signal);
    return found && { ...found, source: `auth file "${file.path}", ${found.source}` };
  } catch (error) {
    throw wrap(`auth file "${file.path}"`, error);
  }
}

function helperFor(file: AuthFile, reference: Reference): Helper | undefined {
  const registry = authDomain(reference.domain);
  const repository = repositoryOf({ ...reference, domain: registry });
  for (const [key, name] of file.helpers) {
    const wanted = registryKey(key);
    if (wanted !== registry && wanted !== repository) continue;
    // Docker writes the key as it stores the credentials.
    return { name, server: key.includes('index.docker.io') ? dockerHubUrl : registry };
  }
  return undefined;
}
