import type { Stats } from 'node:fs';
import { lstat, rm, stat } from 'node:fs/promises';
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

/**
 * Makes sure that the monitor, which follows links and opens whatever is there, meets only real folders below
 * `logDirectory` and a plain file or nothing at the end: who may write there must not choose what is written to or shown as a log
 * (CVE-2026-53489, CVE-2025-0750). `logDirectory` itself may be reached by links, as /var/log/pods on another disk is. The
 * monitor makes no folders and tells nobody why it failed. A link to nothing in the file's place is removed, as CRI-O does.
 */
export async function checkLogPath(options: { readonly logDirectory: string; readonly path: string }): Promise<void> {
  const { logDirectory, path } = options;
  const folders = foldersBetween(normalize(`${logDirectory}/`), path);
  const kinds = await Promise.all([statOf(dirname(path)), ...folders.map((folder) => linkStatOf(folder))]);
  const linked = folders.find((_, index) => kinds[index + 1]?.isSymbolicLink() === true);
  if (linked !== undefined) throw refused(path, `"${linked}" is a symbolic link`);
  if (kinds[0]?.isDirectory() !== true) {
    throw new CrioError('unknown', `open container log "${path}": directory "${dirname(path)}" does not exist`);
  }
  const file = await linkStatOf(path);
  if (file === undefined || file.isFile()) return;
  if (!file.isSymbolicLink()) throw refused(path, 'not a plain file');
  if ((await statOf(path)) !== undefined) throw refused(path, 'a symbolic link');
  await rm(path, { force: true });
}

/** The folders that `path` names below `top`, which ends with a slash; none when it lies elsewhere. Pure. */
export function foldersBetween(top: string, path: string): string[] {
  if (!path.startsWith(top)) return [];
  const names = path.slice(top.length).split('/').slice(0, -1);
  return names.map((_, index) => `${top}${names.slice(0, index + 1).join('/')}`);
}

function refused(path: string, reason: string): CrioError {
  return new CrioError('invalid', `log path "${path}": ${reason}`);
}

function statOf(path: string): Promise<Stats | undefined> {
  return ifThere(stat(path));
}

function linkStatOf(path: string): Promise<Stats | undefined> {
  return ifThere(lstat(path));
}

async function ifThere(stats: Promise<Stats>): Promise<Stats | undefined> {
  try {
    return await stats;
  } catch (error) {
    // A link to itself leads nowhere either.
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
}
