import { createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CrioError, hasCode, messageOf, wrap } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';

/** All private keys below `decryption_keys_path`. Without the folder there are none; a symbolic link is an error. */
export async function readDecryptionKeys(folder: string, log: Logger): Promise<readonly KeyObject[]> {
  if (folder === '') return [];
  const keys: KeyObject[] = [];
  for (const path of await regularFiles(folder)) {
    try {
      keys.push(createPrivateKey(await readFile(path)));
    } catch (error) {
      log.warn(`Read decryption key "${path}": ${messageOf(error)}`);
    }
  }
  return keys;
}

async function regularFiles(folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true, recursive: true });
    const link = entries.find((entry) => entry.isSymbolicLink());
    if (link !== undefined)
      throw new CrioError('invalid', `symbolic link "${join(link.parentPath, link.name)}" is not allowed`);
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw wrap(`read decryption keys in "${folder}"`, error);
  }
}
