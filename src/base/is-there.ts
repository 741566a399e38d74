import { stat } from 'node:fs/promises';
import { hasCode } from './errors.ts';

/** Whether a path exists, links followed; below a file nothing does. Any other error is thrown, stat(2). */
export async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}
