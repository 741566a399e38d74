import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { CrioError, hasCode } from '../base/errors.ts';
import { statAt } from '../sys/file.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW, umountAsync } from '../sys/mount.ts';

const readdir = promisify(fs.readdir);
const rmdir = promisify(fs.rmdir);
const unlink = promisify(fs.unlink);

/**
 * Deletes a file or folder with all that is in it; one that does not exist is success. Never deletes through a mount
 * point, as what is mounted there is somebody's data: it is an error, or with `detachMounts` it is unmounted.
 * Names are bytes, as an image may have any.
 */
export async function removeTree(path: string, options: { readonly detachMounts?: boolean } = {}): Promise<void> {
  const bytes = Buffer.from(path);
  try {
    await unlink(bytes);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    if (!hasCode(error, 'EISDIR', 'EPERM')) throw error;
    await removeFolder(bytes, mountId(bytes), options.detachMounts === true);
  }
}

async function removeFolder(path: Buffer, mount: bigint, detach: boolean): Promise<void> {
  if (mountId(path) !== mount) await leaveMount(path, mount, detach);
  for (const entry of await list(path)) {
    const child = Buffer.concat([path, slash, entry.name]);
    if (entry.isDirectory) await removeFolder(child, mount, detach);
    else await ignoreMissing(unlink(child));
  }
  await ignoreMissing(rmdir(path));
}

async function leaveMount(path: Buffer, mount: bigint, detach: boolean): Promise<void> {
  if (detach) await umountAsync(path, MNT_DETACH | UMOUNT_NOFOLLOW);
  if (mountId(path) === mount) return;
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
