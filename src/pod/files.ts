import { chownSync, closeSync, fstatSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { isAbsolute } from 'node:path';
import { CrioError, hasCode, wrap } from '../base/errors.ts';
import { isThere } from '../base/is-there.ts';

const hostResolvConf = '/etc/resolv.conf';
const maxResolvConfBytes = 1 << 20;

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** A small file in the run directory, owned by the pod's root. */
export function writeOwned(path: string, text: string | Uint8Array, owner: Owner): void {
  writeFileSync(path, text, { mode: 0o644 });
  if (owner.uid !== 0 || owner.gid !== 0) chownSync(path, owner.uid, owner.gid);
}

/** The host's resolv.conf; a host without one gives an empty file. Small and always in the page cache: read at once. */
export function readHostResolvConf(): Uint8Array {
  let fd: number;
  try {
    fd = openSync(hostResolvConf, 'r');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return new Uint8Array();
    throw error;
  }
  try {
    const { size } = fstatSync(fd);
    if (size > maxResolvConfBytes)
      throw new CrioError('invalid', `read "${hostResolvConf}": larger than ${maxResolvConfBytes} bytes`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Writes whole and renames; not synced, because a reboot ends the pod anyway. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  const file = await open(temporary, 'w', 0o644);
  try {
    await file.writeFile(text);
  } finally {
    // Nobody needs to wait for it: each step is a round trip through the thread pool.
    file.close().catch(() => undefined);
  }
  await rename(temporary, path);
}

/** The same for files in /run: tmpfs never waits for a disk. */
export function replaceFileNow(path: string, text: string): void {
  const temporary = `${path}.tmp`;
  writeFileSync(temporary, text, { mode: 0o644 });
  renameSync(temporary, path);
}

/** The text is CRI-O's. */
export function chooseLogDirectory(options: { requested: string; logDir: string; id: string }): string {
  const { requested, logDir, id } = options;
  if (requested === '') return `${logDir}/${id}`;
  if (!isAbsolute(requested)) {
    throw new CrioError('unknown', `requested logDir for sbox ID ${id} is a relative path: ${requested}`);
  }
  return requested;
}

/** Makes the log folder, and removes a link at the place of the infra container's log that leads nowhere. */
export async function prepareLog(directory: string, logPath: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    if ((await isLink(logPath)) && !(await isThere(logPath))) await rm(logPath);
  } catch (error) {
    throw wrap(`prepare log directory "${directory}"`, error);
  }
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}
