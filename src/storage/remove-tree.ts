import { readdir as readdirCallback, rmdir as rmdirCallback, unlink as unlinkCallback } from 'node:fs';
import { promisify } from 'node:util';
import { CrioError, hasCode } from '../base/errors.ts';
import { statAt } from '../sys/file.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW, umountAsync } from '../sys/mount.ts';
import { run } from '../sys/run.ts';

const readdir = promisify(readdirCallback);
const rmdir = promisify(rmdirCallback);
const unlink = promisify(unlinkCallback);

/** A tree with more entries is left to rm(1), as a layer can have a hundred thousand; so is one that is too deep for a path. */
const maxOwnEntries = 2000;

/**
 * Deletes a file or folder with all that is in it; one that does not exist is success. Never deletes through a mount
 * point, as what is mounted there is somebody's data: it is an error, or with `detachMounts` it is unmounted.
 * Names are bytes, as an image may have any.
 */
export async function removeTree(path: string, options: { readonly detachMounts?: boolean } = {}): Promise<void> {
  const bytes = Buffer.from(path);
  try {
    await unlink(bytes);
    return;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    if (!hasCode(error, 'EISDIR', 'EPERM')) throw error;
  }
  let mount: bigint;
  try {
    mount = mountId(bytes);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  const removal: Removal = { mount, detachMounts: options.detachMounts === true, left: maxOwnEntries };
  try {
    await ignoreMissing(removeFolder(bytes, removal));
  } catch (error) {
    // Links of a layer, or a program that goes down step by step, make trees that no path reaches the end of.
    if (!hasCode(error, 'ENAMETOOLONG')) throw error;
    removal.left = 0;
  }
  if (removal.left <= 0) await removeWithProgram(path);
}

interface Removal {
  readonly mount: bigint;
  readonly detachMounts: boolean;
  /** Entries that this process still deletes itself. */
  left: number;
}

async function removeFolder(path: Buffer, removal: Removal): Promise<void> {
  if (mountId(path) !== removal.mount) await leaveMount(path, removal);
  for (const entry of await list(path)) {
    removal.left -= 1;
    if (removal.left <= 0) return;
    const child = Buffer.concat([path, slash, entry.name]);
    await ignoreMissing(entry.isDirectory ? removeFolder(child, removal) : unlink(child));
  }
  if (removal.left > 0) await ignoreMissing(rmdir(path));
}

/**
 * Deletes with rm(1), which leaves mount points and what is in them alone; throws when anything is left. A process of its
 * own costs this one little, and a disk that hangs holds up neither it nor its thread pool.
 */
export async function removeWithProgram(path: string): Promise<void> {
  const env = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' };
  const { code, stderr } = await run({ file: 'rm', args: ['-rf', '--one-file-system', '--', path], env });
  if (code !== 0) throw new CrioError('internal', `remove "${path}": ${stderr.toString().trim().slice(0, 500)}`);
}

async function leaveMount(path: Buffer, removal: Removal): Promise<void> {
  if (removal.detachMounts) await umountAsync(path, MNT_DETACH | UMOUNT_NOFOLLOW);
  if (mountId(path) === removal.mount) return;
  throw new CrioError('failed-precondition', `remove "${path.toString()}": it is a mount point`);
}

const slash = Buffer.from('/');

async function list(path: Buffer): Promise<{ name: Buffer; isDirectory: boolean }[]> {
  const entries = await readdir(path, { withFileTypes: true, encoding: 'buffer' });
  return entries.map((entry) => ({ name: entry.name, isDirectory: entry.isDirectory() }));
}

function mountId(path: Buffer): bigint {
  return statAt(undefined, path).mountId;
}

async function ignoreMissing(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}
