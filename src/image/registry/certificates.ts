import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { env } from 'node:process';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import { loadSystemAuthorities } from './system-authorities.ts';

/** Folders with one folder per `host[:port]`; the first that has one is used. containers-certs.d(5) */
export const defaultCertificateDirs = ['/etc/containers/certs.d', '/etc/docker/certs.d'] as const;

interface HostFiles {
  readonly authorities: readonly string[];
  readonly clients: readonly { readonly cert: string; readonly key: string }[];
}

/**
 * TLS settings for hosts: the machine's authorities, those of the host's certs.d folder, and its client certificates.
 * Hosts without a folder share one context, since making one reads every authority (10 ms).
 */
export class TlsContexts {
  readonly #dirs: readonly string[];
  #system: Promise<readonly string[]> | undefined;
  #shared: SecureContext | undefined;
  #unverified: SecureContext | undefined;

  constructor(dirs: readonly string[]) {
    this.#dirs = dirs;
  }

  /** `verify: false` needs no authorities. */
  async open(host: string, { verify }: { readonly verify: boolean }): Promise<SecureContext> {
    const { authorities, clients } = await readHostFiles(this.#dirs, host);
    const own = { cert: clients.map((client) => client.cert), key: clients.map((client) => client.key) };
    if (!verify) {
      if (clients.length > 0) return createSecureContext({ ca: [], ...own });
      return (this.#unverified ??= createSecureContext({ ca: [] }));
    }
    this.#system ??= loadSystemAuthorities(env);
    const system = await this.#system;
    if (clients.length > 0 || authorities.length > 0)
      return createSecureContext({ ca: [...system, ...authorities], ...own });
    return (this.#shared ??= createSecureContext({ ca: [...system] }));
  }
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
