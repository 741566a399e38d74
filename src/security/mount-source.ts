import { lstatSync, mkdirSync, realpathSync } from 'node:fs';
import { hasCode } from '../base/errors.ts';
import type { MountInfo } from '../sys/mount.ts';
import { SpareThreads } from './spare-threads.ts';

/** File systems whose server may be gone: every look at them can hang for ever. */
const remoteTypes =
  /^(?:nfs4?|cifs|smb3?|ceph|9p|afs|lustre|beegfs|gpfs|glusterfs|orangefs|coda|autofs|fuse(?:\..*)?)$/;

const threads = new SpareThreads();

/**
 * A path of the host with the link in its last part followed; undefined when there is nothing. On a node with remote
 * file systems a thread of its own looks, and is given up when a server does not answer: a path may lead there through
 * any link.
 */
export async function followSource(path: string, mountInfo: readonly MountInfo[]): Promise<string | undefined> {
  try {
    if (hasRemote(mountInfo)) return await threads.run('follow', path);
    return lstatSync(path).isSymbolicLink() ? realpathSync(path) : path;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Makes a directory of the host and those above it, mode 0755. */
export async function makeSource(path: string, mountInfo: readonly MountInfo[]): Promise<void> {
  if (hasRemote(mountInfo)) await threads.run('make', path);
  else mkdirSync(path, { recursive: true, mode: 0o755 });
}

function hasRemote(mountInfo: readonly MountInfo[]): boolean {
  return mountInfo.some(({ fsType }) => remoteTypes.test(fsType));
}
