import { constants, type Stats } from 'node:fs';
import { chmod, chown, copyFile, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../base/errors.ts';

/** Deeper trees are links in a circle. */
const maxDepth = 40;

/** Copies a file or directory of the host: links are followed, modes kept, everything belongs to `owner`. Other kinds are left out. */
export async function copyTree(
  source: string,
  target: string,
  owner: { readonly uid: number; readonly gid: number },
  depth = 0,
): Promise<void> {
  const info = await statIfThere(source);
  if (info === undefined || depth > maxDepth) return;
  if (info.isDirectory()) {
    await mkdir(target, { recursive: true, mode: 0o700 });
    for (const name of await readdir(source)) await copyTree(join(source, name), join(target, name), owner, depth + 1);
  } else if (info.isFile()) {
    await copyFile(source, target, constants.COPYFILE_EXCL);
  } else {
    return;
  }
  await chown(target, owner.uid, owner.gid);
  await chmod(target, info.mode & 0o7777);
}

async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ELOOP')) return undefined;
    throw error;
  }
}
