import { randomUUID } from 'node:crypto';
import { open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, wrap } from '../../base/errors.ts';

/** Readable for all, as a container's user is not root; the folder above lets nobody else through. */
export async function writeDurably(
  path: string,
  write: (append: (chunk: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  const temporary = `${join(path, '..')}/.tmp-${randomUUID()}`;
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
