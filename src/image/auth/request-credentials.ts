import type { Credentials } from '../images.ts';
import { repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { registryKey } from './auth-file.ts';
import { isAnonymous } from './resolved-credentials.ts';
import type { ResolvedCredentials } from './resolved-credentials.ts';

/**
 * The credentials of the CRI request for one place of an image; undefined when they are not meant for it. They go to the
 * host that the user named, as with the other container tools, not to a mirror or a `location` on another host, unless
 * they name that one.
 */
export function requestCredentials(
  credentials: Credentials | undefined,
  logical: Reference,
  { reference: physical }: { readonly reference: Reference },
): ResolvedCredentials | undefined {
  if (credentials === undefined || isAnonymous(credentials)) return undefined;
  const server = credentials.serverAddress === '' ? undefined : registryKey(credentials.serverAddress);
  const isForLogical = server === undefined || covers(server, logical);
  const isForPhysical = server !== undefined && covers(server, physical);
  if (!isForPhysical && !(isForLogical && physical.domain === logical.domain)) return undefined;
  const { username, password, identityToken, registryToken } = credentials;
  return { username, password, identityToken, registryToken, source: 'credentials of the request' };
}

function covers(server: string, reference: Reference): boolean {
  const name = repositoryOf(reference);
  return name === server || name.startsWith(`${server}/`);
}
