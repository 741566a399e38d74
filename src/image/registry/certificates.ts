import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { env } from 'node:process';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { CrioError, hasCode, wrap } from '../../base/errors.ts';
import { homeFolder } from '../home-folder.ts';
import { loadSystemAuthorities } from './system-authorities.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Folders with one folder per `host[:port]`; the first that has one is used. containers-certs.d(5) */
export function defaultCertificateDirs(env: Env): readonly string[] {
  const own = join(homeFolder(env), '.config/containers/certs.d');
  return [own, '/etc/containers/certs.d', '/etc/docker/certs.d'];
}

interface HostFiles {
  readonly authorities: readonly string[];
  readonly clients: readonly { readonly cert: string; readonly key: string }[];
}

export interface OpenedContext {
  readonly secureContext: SecureContext;
  /** Of the files it was made from: another one from `stamp` says that they have changed. */
  readonly stamp: string;
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

  /** Client certificates come from the first host's folder, authorities from all. `verify: false` needs no authorities. */
  async open(hosts: readonly string[], { verify }: { readonly verify: boolean }): Promise<OpenedContext> {
    // Before the files are read: one that changes meanwhile is then found to have changed.
    const stamp = await this.stamp(hosts);
    const folders = await Promise.all(hosts.map((host) => readHostFiles(this.#dirs, host)));
    return { stamp, secureContext: await this.#makeContext(folders, verify) };
  }

  /** Changes when a file of the hosts' folders changes, comes or goes. */
  async stamp(hosts: readonly string[]): Promise<string> {
    return (await Promise.all(hosts.map((host) => stampOf(this.#dirs, host)))).join('\n');
  }

  async #makeContext(folders: readonly HostFiles[], verify: boolean): Promise<SecureContext> {
    const clients = folders[0]?.clients ?? [];
    const own = { cert: clients.map((client) => client.cert), key: clients.map((client) => client.key) };
    if (!verify) {
      if (clients.length > 0) return createSecureContext({ ca: [], ...own });
      return (this.#unverified ??= createSecureContext({ ca: [] }));
    }
    this.#system ??= loadSystemAuthorities(env);
    const system = await this.#system;
    const authorities = folders.flatMap((folder) => folder.authorities);
    if (clients.length > 0 || authorities.length > 0)
      return createSecureContext({ ca: [...system, ...authorities], ...own });
    return (this.#shared ??= createSecureContext({ ca: [...system] }));
  }
}

async function readHostFiles(dirs: readonly string[], host: string): Promise<HostFiles> {
  const folder = await findFolder(dirs, host);
  return folder === undefined ? { authorities: [], clients: [] } : readDir(folder.dir, folder.names);
}

async function stampOf(dirs: readonly string[], host: string): Promise<string> {
  const folder = await findFolder(dirs, host);
  if (folder === undefined) return '';
  const files = folder.names
    .filter((name) => /\.(?:crt|cert|key)$/.test(name))
    .map(async (name) => {
      const path = join(folder.dir, name);
      const { ino, size, ctimeNs } = await stat(path, { bigint: true }).catch(() => ({ ino: 0, size: 0, ctimeNs: 0 }));
      return `${path} ${ino} ${size} ${ctimeNs}`;
    });
  return (await Promise.all(files)).join('\n');
}

async function findFolder(
  dirs: readonly string[],
  host: string,
): Promise<{ readonly dir: string; readonly names: readonly string[] } | undefined> {
  for (const parent of dirs) {
    const dir = join(parent, host);
    const names = await listDir(dir);
    if (names !== undefined) return { dir, names };
  }
  return undefined;
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
