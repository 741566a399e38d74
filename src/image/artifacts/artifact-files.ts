import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { hasCode, wrap } from '../../base/errors.ts';

const prefix = '.tmp-';

/** Readable for all, as a container's user is not root; the folder above lets nobody else through. */
export async function writeDurably(
  path: string,
  write: (append: (chunk: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  const temporary = `${join(path, '..')}/${prefix}${randomUUID()}`;
  try {
    await using file = await open(temporary, 'wx', 0o644);
    await write(async (chunk) => {
      await file.appendFile(chunk);
    });
    await file.datasync();
    await rename(temporary, path);
    await using folder = await open(join(path, '..'), 'r');
    await folder.sync();
  } catch (error) {
    await rm(temporary, { force: true });
    throw wrap(`write "${path}"`, error);
  }
}

/** What is in a folder; nothing when there is none. */
export async function names(dir: string): Promise<readonly string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}

/** Undefined when there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** What `writeDurably` has not come to an end with, at this moment. */
export function temporaryFiles(dir: string): readonly string[] {
  const list = (folder: string): readonly string[] => {
    try {
      return readdirSync(folder).map((name) => join(folder, name));
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return [];
      throw error;
    }
  };
  return [dir, join(dir, 'crio-signatures'), ...list(join(dir, 'blobs'))]
    .flatMap(list)
    .filter((path) => basename(path).startsWith(prefix));
}
