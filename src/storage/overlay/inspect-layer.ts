import { lstat, readFile, readlink } from 'node:fs/promises';
import { hasCode } from '../../base/errors.ts';
import { readLower } from './layer-dirs.ts';

/**
 * What is wrong with the folder of a layer, seen without reading its content; undefined when nothing is. What is wrong with
 * the layers below it is theirs.
 */
export async function inspectLayerDirs(home: string, id: string, hasParent: boolean): Promise<string | undefined> {
  const folder = `${home}/${id}`;
  if (!(await isFolder(`${folder}/diff`))) return 'its content is missing';
  const link = await textOf(`${folder}/link`);
  if (!/^[A-Z2-7]{26}$/.test(link)) return 'its short name is missing';
  if ((await targetOf(`${home}/l/${link}`)) !== `../${id}/diff`) return `its short name l/${link} does not lead to it`;
  const lower = await readLower(folder);
  if (hasParent && lower === '') return 'its list of lower layers is empty';
  if (lower !== '' && !/^l\/[A-Z2-7]{26}(?::l\/[A-Z2-7]{26})*$/.test(lower))
    return 'its list of lower layers is damaged';
  return undefined;
}

/** A layer of an additional layer store has a link there. */
async function isFolder(path: string): Promise<boolean> {
  try {
    const stats = await lstat(path);
    return stats.isDirectory() || stats.isSymbolicLink();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

async function textOf(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}

async function targetOf(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EINVAL')) return undefined;
    throw error;
  }
}
