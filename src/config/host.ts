import { accessSync, constants, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { hasCode } from '../base/errors.ts';

/** What loading and light validation look at on the host; tests hand in a small map of files. */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Throws with `code` as Node does. */
  readFile(path: string): Uint8Array;
  /** Follows symbolic links; undefined when there is nothing. */
  typeOf(path: string): 'file' | 'directory' | 'character' | 'block' | 'other' | undefined;
  /** Names in a folder with whether each is itself a folder (not through a symbolic link), sorted by bytes. */
  list(path: string): readonly { readonly name: string; readonly isDirectory: boolean }[];
  isExecutable(path: string): boolean;
}

export function realHost(env: Host['env']): Host {
  return { env, readFile: (path) => readFileSync(path), typeOf, list, isExecutable };
}

export function existsFile(host: Host, path: string): boolean {
  const type = host.typeOf(path);
  return type !== undefined && type !== 'directory';
}

/** The program that a shell would find in $PATH, as an absolute path. */
export function lookPath(host: Host, name: string): string | undefined {
  if (name.includes('/')) return host.isExecutable(name) ? name : undefined;
  const folders = (host.env['PATH'] ?? '').split(':').filter((folder) => folder.startsWith('/'));
  return folders.map((folder) => `${folder.replace(/\/+$/, '')}/${name}`).find((path) => host.isExecutable(path));
}

function typeOf(path: string): ReturnType<Host['typeOf']> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  if (stat.isDirectory()) return 'directory';
  if (stat.isFile()) return 'file';
  if (stat.isCharacterDevice()) return 'character';
  return stat.isBlockDevice() ? 'block' : 'other';
}

function list(path: string): ReturnType<Host['list']> {
  return readdirSync(path)
    .sort(compareBytes)
    .map((name) => ({ name, isDirectory: lstatSync(`${path}/${name}`).isDirectory() }));
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES', 'ENOTDIR', 'ELOOP')) return false;
    throw error;
  }
}
