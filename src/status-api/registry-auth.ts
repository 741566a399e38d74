import type { IncomingHttpHeaders } from 'node:http';
import { CrioError } from '../base/errors.ts';
import type { Credentials } from '../image/images.ts';

/** What a pull over HTTP may bring. Never logged. */
export interface RegistryAuth {
  readonly credentials: Credentials | undefined;
  readonly authFile: string | undefined;
}

/**
 * `X-Registry-Auth` is base64url of JSON, as Docker's API has it: `username`, `password`, `identitytoken`,
 * `registrytoken`, `serveraddress`. `X-Registry-Auth-File` is the absolute path of a containers-auth.json(5),
 * percent-encoded. An error repeats nothing of them.
 */
export function readRegistryAuth(headers: IncomingHttpHeaders): RegistryAuth {
  return {
    credentials: readCredentials(text(headers, 'x-registry-auth')),
    authFile: readFile(text(headers, fileHeader)),
  };
}

const fileHeader = 'x-registry-auth-file';

function readCredentials(header: string): Credentials | undefined {
  if (header === '') return undefined;
  let fields: unknown;
  try {
    fields = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
  } catch {
    throw invalid('X-Registry-Auth');
  }
  if (typeof fields !== 'object' || fields === null) throw invalid('X-Registry-Auth');
  const values = new Map<string, unknown>(Object.entries(fields));
  const field = (name: string): string => {
    const value = values.get(name) ?? '';
    if (typeof value !== 'string') throw invalid('X-Registry-Auth');
    return value;
  };
  return {
    username: field('username'),
    password: field('password'),
    identityToken: field('identitytoken'),
    registryToken: field('registrytoken'),
    serverAddress: field('serveraddress'),
  };
}

function readFile(header: string): string | undefined {
  if (header === '') return undefined;
  let path: string;
  try {
    path = decodeURIComponent(header);
  } catch {
    throw invalid('X-Registry-Auth-File');
  }
  if (!path.startsWith('/')) throw invalid('X-Registry-Auth-File');
  return path;
}

function text(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  return typeof value === 'string' ? value : '';
}

function invalid(name: string): CrioError {
  return new CrioError('invalid', `header ${name} cannot be read`);
}
