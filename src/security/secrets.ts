import { access, mkdir, readFile } from 'node:fs/promises';
import { dirname, posix } from 'node:path';
import { hasCode } from '../base/errors.ts';
import type { Mount } from '../runtime/spec/oci.ts';
import { copyTree } from './copy-tree.ts';

export interface SecretsRequest {
  readonly bundle: string;
  /** `default_mounts_file`; `` for the usual places */
  readonly mountsFile: string;
  /** Paths the request mounts something on. */
  readonly mounted: ReadonlySet<string>;
  /** Host ids of root in the container's user namespace. */
  readonly rootOwner: { readonly uid: number; readonly gid: number };
}

const usualFiles = ['/etc/containers/mounts.conf', '/usr/share/containers/mounts.conf'];

/** Copies what mounts.conf names (`host:container` per line) into the bundle and returns the mounts. */
export async function makeSecrets(request: SecretsRequest): Promise<Mount[]> {
  const mounts: Mount[] = [];
  for (const { source, destination } of await readMountsFile(request.mountsFile)) {
    if (request.mounted.has(destination) || !(await exists(source))) continue;
    const copy = `${request.bundle}${destination}`;
    await mkdir(dirname(copy), { recursive: true, mode: 0o700 });
    await copyTree(source, copy, request.rootOwner);
    mounts.push({ destination, type: 'bind', source: copy, options: ['bind', 'rprivate'] });
  }
  return mounts;
}

async function readMountsFile(configured: string): Promise<{ source: string; destination: string }[]> {
  for (const path of configured === '' ? usualFiles : [configured]) {
    try {
      return parseMountsFile(await readFile(path, 'utf8'));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }
  return [];
}

/** Lines without two absolute paths mean nothing. */
export function parseMountsFile(text: string): { source: string; destination: string }[] {
  return text.split('\n').flatMap((line) => {
    const [source = '', destination = ''] = line.trim().split(':');
    if (!source.startsWith('/') || !destination.startsWith('/')) return [];
    return [{ source, destination: posix.normalize(destination) }];
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
