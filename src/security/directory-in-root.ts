import { closeSync, fchmodSync, fchownSync, readlinkSync } from 'node:fs';
import { posix } from 'node:path';
import { CrioError, hasCode } from '../base/errors.ts';
import { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } from '../sys/arch.ts';
import { mkdirat, openInRoot, readlinkat } from '../sys/file.ts';

/** As many links as the kernel follows, path_resolution(7). */
const maxLinks = 40;

export interface NewDirectory {
  readonly mode: number;
  /** Ids of the host. */
  readonly owner: { readonly uid: number; readonly gid: number };
}

/**
 * Opens a directory inside a root file system and makes what is missing on the way, as a process chrooted there would:
 * links are followed, none leads out. Only new directories get mode and owner. The descriptor is the caller's.
 * Throws CrioError `invalid` (`... not a directory`) when something else is in the way.
 */
export function openDirectoryInRoot(rootFd: number, path: string, created: NewDirectory): number {
  return openOrMake(rootFd, path, created, maxLinks);
}

function openOrMake(rootFd: number, path: string, created: NewDirectory, links: number): number {
  const existing = tryOpenDirectory(rootFd, path);
  if (existing !== undefined) return existing;
  if (links === 0) throw new CrioError('invalid', `open directory "${path}" of the image: too many links`);
  const { dir, base } = posix.parse(path.replace(/\/+$/, ''));
  if (base === '') throw new CrioError('invalid', `open directory "${path}" of the image: not found`);
  const parent = openOrMake(rootFd, dir === '' ? '/' : dir, created, links);
  try {
    // with `..` in the path it may exist as soon as its parent does
    return tryOpenDirectory(rootFd, path) ?? makeIn(rootFd, { parent, dir, base }, created, links);
  } finally {
    closeSync(parent);
  }
}

interface Place {
  readonly parent: number;
  readonly dir: string;
  readonly base: string;
}

function makeIn(rootFd: number, { parent, dir, base }: Place, created: NewDirectory, links: number): number {
  try {
    mkdirat(parent, base, created.mode);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    // it is there and yet could not be opened: a link whose target is missing
    const target = readlinkat(parent, base).toString();
    return openOrMake(rootFd, posix.isAbsolute(target) ? target : `${dir}/${target}`, created, links - 1);
  }
  const fd = openInRoot(parent, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  fchownSync(fd, created.owner.uid, created.owner.gid);
  // the process's umask took bits away
  fchmodSync(fd, created.mode);
  return fd;
}

function tryOpenDirectory(rootFd: number, path: string): number | undefined {
  try {
    return openInRoot(rootFd, path, O_RDONLY | O_DIRECTORY);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    if (hasCode(error, 'ENOTDIR', 'ELOOP'))
      throw new CrioError('invalid', `mkdir ${path}: not a directory`, { cause: error });
    throw error;
  }
}

/** Where an open file of the image lies, below the root file system; for checks, never to be opened again. */
export function pathInRoot(rootFd: number, fd: number): string {
  const root = readlinkSync(`/proc/self/fd/${rootFd}`);
  const path = readlinkSync(`/proc/self/fd/${fd}`);
  return path === root ? '/' : path.slice(root === '/' ? 0 : root.length);
}
