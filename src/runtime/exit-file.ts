import { readFile, stat } from 'node:fs/promises';
import { isThere } from '../base/is-there.ts';
import { hasCode } from '../base/errors.ts';
import type { ExitRecord } from './runtime.ts';

/** What a monitor wrote at a container's end; undefined when the file is missing or not yet complete. */
export async function readExitFile(path: string): Promise<Pick<ExitRecord, 'exitCode' | 'finishedAtNs'> | undefined> {
  try {
    const text = await readFile(path, 'latin1');
    if (!/^-?\d{1,4}\s*$/.test(text)) return undefined;
    const { ctimeNs } = await stat(path, { bigint: true });
    return { exitCode: Number(text), finishedAtNs: ctimeNs };
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** The monitor leaves `oom` beside `exit` when the kernel killed a process for its memory. */
export async function hasOomFile(persistDir: string): Promise<boolean> {
  return isThere(`${persistDir}/oom`);
}
