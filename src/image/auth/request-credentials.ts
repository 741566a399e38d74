import type { Credentials } from '../images.ts';
import { repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';
import { registryKey } from './auth-file.ts';
import type { ResolvedCredentials } from './resolved-credentials.ts';

/**
 * The credentials of the CRI request for one place of an image; undefined when they are not meant for it. They belong
 * to the registry that the user named, wherever its `location` is, but not to its mirrors, unless they name the mirror.
 */
export function requestCredentials(
  credentials: Credentials | undefined,
  logical: Reference,
  physical: { readonly reference: Reference; readonly isMirror: boolean },
): ResolvedCredentials | undefined {
  if (credentials === undefined || isEmpty(credentials)) return undefined;
  const server = credentials.serverAddress === '' ? undefined : registryKey(credentials.serverAddress);
  const isForPhysical = server !== undefined && covers(server, physical.reference);
  const isForLogical = server === undefined || covers(server, logical);
  const sameRegistry = physical.reference.domain === logical.domain;
  if (!isForPhysical && !(isForLogical && (sameRegistry || !physical.isMirror))) return undefined;
  const { username, password, identityToken, registryToken } = credentials;
  return { username, password, identityToken, registryToken, source: 'credentials of the request' };
}

function covers(server: string, reference: Reference): boolean {
  const name = repositoryOf(reference);
  return name === server || name.startsWith(`${server}/`);
}

function isEmpty(credentials: Credentials): boolean {
  const { username, password, identityToken, registryToken } = credentials;
  return username === '' && password === '' && identityToken === '' && registryToken === '';
}
