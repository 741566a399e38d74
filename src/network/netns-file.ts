import { statfs } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';

// linux/magic.h
const NSFS_MAGIC = 0x6e736673;
const PROC_SUPER_MAGIC = 0x9fa0;

/** Whether the path leads to a namespace: a bind mount of one, or a file of /proc. */
export async function isNamespaceFile(path: string): Promise<boolean> {
  if (path === '') return false;
  try {
    const { type } = await statfs(path);
    return type === NSFS_MAGIC || type === PROC_SUPER_MAGIC;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
