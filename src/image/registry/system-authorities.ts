import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { hasCode } from '../../base/errors.ts';

/** Where distributions keep the bundle of authorities; the first that exists is used. */
const bundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/tls/cacert.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
];
const folders = ['/etc/ssl/certs', '/etc/pki/tls/certs'];
const certificate = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[\s\S]+?-----END (?:TRUSTED )?CERTIFICATE-----/g;

type Env = Readonly<Record<string, string | undefined>>;

/**
 * The authorities the machine trusts, each once: SSL_CERT_FILE and SSL_CERT_DIR when set, else the distribution's
 * bundle, as Go programs find them. Node's own list where the machine has none. Read without blocking; Node's
 * `getCACertificates` reads Debian's folder of links too, twice, for 40 ms on the main thread.
 */
export async function loadSystemAuthorities(env: Env): Promise<readonly string[]> {
  const found = new Set<string>();
  const file = env['SSL_CERT_FILE'];
  for (const path of file === undefined || file === '' ? bundles : [file]) {
    const text = await readOptional(path);
    if (text === undefined) continue;
    for (const [pem] of text.matchAll(certificate)) found.add(pem);
    break;
  }
  const dirs = env['SSL_CERT_DIR'];
  const search = dirs === undefined || dirs === '' ? (found.size > 0 ? [] : folders) : dirs.split(':');
  for (const dir of search) for (const pem of await readFolder(dir)) found.add(pem);
  return found.size > 0 ? [...found] : rootCertificates;
}

async function readFolder(dir: string): Promise<readonly string[]> {
  let names;
  try {
    names = await readdir(dir);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return [];
    throw error;
  }
  const texts = await Promise.all(names.map((name) => readOptional(join(dir, name))));
  return texts.flatMap((text) => [...(text ?? '').matchAll(certificate)].map(([pem]) => pem));
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EISDIR', 'EACCES', 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
}
