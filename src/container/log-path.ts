import type { Stats } from 'node:fs';
import { lstat, realpath, stat, unlink } from 'node:fs/promises';
import { dirname, isAbsolute, normalize } from 'node:path';
import { CrioError, hasCode } from '../base/errors.ts';

/**
 * Where a container's log goes: `logPath` below `logDirectory`, or `<id>.log` there. Throws `invalid` when it would lie
 * elsewhere.
 */
export function containerLogPath(options: { logDirectory: string; logPath: string; id: string }): string {
  const { logDirectory, logPath, id } = options;
  if (!isAbsolute(logDirectory))
    throw new CrioError('invalid', `log directory "${logDirectory}": not an absolute path`);
  const path = normalize(`${logDirectory}/${logPath === '' ? `${id}.log` : logPath}`);
  if (!path.startsWith(normalize(`${logDirectory}/`))) {
    throw new CrioError('invalid', `log path "${logPath}": outside of the log directory "${logDirectory}"`);
  }
  return path;
}

/** The monitor does not make folders and tells nobody why it failed. A broken symlink in the file's place is removed. */
export async function prepareLogPath(path: string): Promise<void> {
  const directory = dirname(path);
  const [stats] = await Promise.all([statOf(directory), removeBrokenLink(path)]);
  if (stats?.isDirectory() !== true) {
    throw new CrioError('unknown', `create container log "${path}": directory "${directory}" does not exist`);
  }
}

async function statOf(directory: string): Promise<Stats | undefined> {
  try {
    return await stat(directory);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

async function removeBrokenLink(path: string): Promise<void> {
  try {
    if (!(await lstat(path)).isSymbolicLink()) return;
    await realpath(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR')) throw error;
    await unlink(path).catch((unlinkError: unknown) => {
      if (!hasCode(unlinkError, 'ENOENT', 'ENOTDIR')) throw unlinkError;
    });
  }
}
