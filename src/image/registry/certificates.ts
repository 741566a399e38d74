import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, getCACertificates, rootCertificates } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';

/** Folders with one folder per `host[:port]`; the first that has one is used. containers-certs.d(5) */
export const defaultCertificateDirs = ['/etc/containers/certs.d', '/etc/docker/certs.d'] as const;

interface HostFiles {
  readonly authorities: readonly string[];
  readonly clients: readonly { readonly cert: string; readonly key: string }[];
}

/** TLS settings for a host: the system's authorities, those of its certs.d folder, and its client certificates. */
export async function loadTlsContext(dirs: readonly string[], host: string): Promise<SecureContext> {
  const files = await readHostFiles(dirs, host);
  return createSecureContext({
    ca: [...systemAuthorities(), ...files.authorities],
    cert: files.clients.map((client) => client.cert),
    key: files.clients.map((client) => client.key),
  });
}

let cachedAuthorities: readonly string[] | undefined;

/** The machine's authorities (SSL_CERT_FILE and SSL_CERT_DIR count); Node's own list where the machine has none. */
function systemAuthorities(): readonly string[] {
  if (cachedAuthorities === undefined) {
    const system = getCACertificates('system');
    cachedAuthorities = system.length > 0 ? system : rootCertificates;
  }
  return cachedAuthorities;
}

async function readHostFiles(dirs: readonly string[], host: string): Promise<HostFiles> {
  for (const parent of dirs) {
    const dir = join(parent, host);
    const names = await listDir(dir);
    if (names !== undefined) return readDir(dir, names);
  }
  return { authorities: [], clients: [] };
}

async function readDir(dir: string, names: readonly string[]): Promise<HostFiles> {
  checkPairs(dir, names);
  const read = (name: string) => readFile(join(dir, name), 'utf8');
  const clients = names
    .filter((name) => name.endsWith('.cert'))
    .map(async (name) => ({ cert: await read(name), key: await read(`${stem(name)}.key`) }));
  const authorities = names.filter((name) => name.endsWith('.crt')).map(read);
  const [found, pairs] = await Promise.all([Promise.all(authorities), Promise.all(clients)]);
  return { authorities: found, clients: pairs };
}

/** A client certificate and its key have the same name; the endings tell them and authorities apart. */
function checkPairs(dir: string, names: readonly string[]): void {
  for (const name of names) {
    if (name.endsWith('.cert') && !names.includes(`${stem(name)}.key`)) {
      throw new CrioError(
        'invalid',
        `missing key ${stem(name)}.key for client certificate ${name} in "${dir}". Note that CA certificates should use the extension .crt`,
      );
    }
    if (name.endsWith('.key') && !names.includes(`${stem(name)}.cert`)) {
      throw new CrioError('invalid', `missing client certificate ${stem(name)}.cert for key ${name} in "${dir}"`);
    }
  }
}

function stem(name: string): string {
  return name.slice(0, name.lastIndexOf('.'));
}

async function listDir(dir: string): Promise<readonly string[] | undefined> {
  try {
    return (await readdir(dir)).toSorted();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw wrap(`read certificates in "${dir}"`, error);
  }
}
