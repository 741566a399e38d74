import { closeSync, constants, fstatSync } from 'node:fs';
import { posix } from 'node:path';
import { CrioError, hasCode } from '../base/errors.ts';
import { O_PATH } from '../sys/arch.ts';
import { openInRoot, readlinkat } from '../sys/file.ts';
import { maxFileBytes } from './read-in-root.ts';

/**
 * What makes an OCI runtime hang or fill the memory instead of failing, and so has to be refused before it sees it: a
 * runtime that hangs keeps others from starting until its time is over.
 */

/** The runtimes read these in the container, whatever user it has, to find its HOME and groups. */
const userFiles = ['/etc/passwd', '/etc/group'] as const;

/** MAX_ARG_STRLEN of execve(2), with the NUL at the end. */
const maxStringBytes = 128 * 1024;
/** PATH_MAX; a longer program name comes back in an error that is longer than the pipe conmon reads it from. */
const maxPathBytes = 4096;

/**
 * Refuses user files that a runtime would wait for or read without end: FIFOs, devices, sockets, links to where they
 * will be when the container runs, and files of gigabytes (CVE-2024-9676, CVE-2025-4437).
 */
export function requireUserFiles(rootFd: number): void {
  for (const path of userFiles) requireFile(rootFd, path);
}

function requireFile(rootFd: number, path: string): void {
  let fd;
  try {
    fd = openInRoot(rootFd, path, O_PATH);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES')) throw error;
    refuseLinkOut(rootFd, path);
    return;
  }
  try {
    const { mode, size } = fstatSync(fd);
    const type = mode & constants.S_IFMT;
    if (type !== constants.S_IFREG)
      throw new CrioError('invalid', `read "${path}" of the image: it is no regular file`);
    if (size > maxFileBytes)
      throw new CrioError('invalid', `read "${path}" of the image: larger than ${maxFileBytes} bytes`);
  } finally {
    closeSync(fd);
  }
}

/** Nothing is at the end of it yet, but /dev and /proc will be there. */
function refuseLinkOut(rootFd: number, path: string): void {
  const place = endOfLinks(rootFd, path);
  if (/^\/(?:dev|proc|sys)(?:\/|$)/.test(place))
    throw new CrioError('invalid', `read "${path}" of the image: it is a link to "${place.slice(0, 200)}"`);
}

/** Of path_resolution(7) */
const maxLinks = 40;

/** Where a path leads when every link on the way is followed, also over what is not there. */
function endOfLinks(rootFd: number, path: string): string {
  const names = namesIn(path);
  let place = '/';
  let links = 0;
  for (let name = names.shift(); name !== undefined && links <= maxLinks; name = names.shift()) {
    const target = name === '..' ? undefined : readLink(rootFd, place, name);
    if (target === undefined) {
      place = posix.join(place, name);
      continue;
    }
    links += 1;
    if (target.startsWith('/')) place = '/';
    names.unshift(...namesIn(target));
  }
  return place;
}

function namesIn(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function readLink(rootFd: number, folder: string, name: string): string | undefined {
  let fd;
  try {
    fd = openInRoot(rootFd, folder, O_PATH);
    return readlinkat(fd, name).toString();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EINVAL', 'EACCES')) return undefined;
    throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Refuses what execve(2) would, while the error is still short. */
export function requireRunnable(process: {
  readonly args?: readonly string[] | undefined;
  readonly env?: readonly string[] | undefined;
}): void {
  const [program = '', ...args] = process.args ?? [];
  if (Buffer.byteLength(program) >= maxPathBytes)
    throw new CrioError('invalid', `run "${program.slice(0, 100)}...": file name too long`);
  for (const text of [...args, ...(process.env ?? [])]) {
    if (Buffer.byteLength(text) >= maxStringBytes)
      throw new CrioError('invalid', `run "${program}" with "${text.slice(0, 100)}...": argument list too long`);
  }
}
