import { readFile } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';

/** Text of a file; undefined when it is missing or, as after a power loss, empty. */
export async function readNonEmpty(path: string): Promise<string | undefined> {
  try {
    const text = await readFile(path, 'utf8');
    return text.trim() === '' ? undefined : text;
  } catch (error) {
    // ESRCH: a file of a process that has ended.
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
