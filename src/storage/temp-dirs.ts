import { randomBytes } from 'node:crypto';
import { mkdir, readdir, unlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { hasCode } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { tryAcquireFileLock } from '../sys/lock.ts';
import type { LockHandle } from '../sys/lock.ts';
import { removeTree, removeWithProgram } from './remove-tree.ts';
import { pooledCalls } from './file-calls.ts';
import type { FileCalls } from './file-calls.ts';

/**
 * A temporary folder in the scheme all programs share: `lock-<random>` is held while `temp-dir-<random>` is in use, so
 * whoever can take the lock knows that its owner died and may delete both. Things to delete are renamed into it, staged
 * content is renamed out of it.
 */
export interface TempDir extends AsyncDisposable {
  readonly path: string;
  /** Path for a new entry, named `<n>-<name>` as the scheme wants. */
  entry(name: string): string;
  /**
   * Moves a file or folder in, to be deleted with the rest; one that does not exist is skipped. It is deleted where it is
   * when it cannot be moved: podman's bind of the driver's home onto itself makes two mounts of one file system, and an
   * image store is often another disk.
   */
  take(path: string): Promise<void>;
}

/** `parent` is created if need be; it stays, empty, when nothing is in use. */
export async function createTempDir(parent: string, calls: FileCalls = pooledCalls): Promise<TempDir> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const random = randomBytes(8).toString('hex');
  const lockPath = `${parent}/lock-${random}`;
  const path = `${parent}/temp-dir-${random}`;
  const lock = tryAcquireFileLock(lockPath, 'write');
  if (lock === undefined) throw new Error(`new lock file "${lockPath}" is held by another program`);
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    await unlink(lockPath).catch(() => undefined);
    lock.release();
    throw error;
  }
  let count = 0;
  const entry = (name: string) => `${path}/${count++}-${name}`;
  return {
    path,
    entry,
    async take(source) {
      try {
        await calls.rename(source, entry(basename(source)));
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return;
        if (!hasCode(error, 'EXDEV', 'EBUSY')) throw error;
        await removeTree(source, { detachMounts: true });
      }
    },
    [Symbol.asyncDispose]: () => removeSoon({ path, lockPath, lock }, 0),
  };
}

/** Trouble of the process or the disk that may pass: how long to wait before the next try. */
const passingTrouble = ['EMFILE', 'ENFILE', 'ENOMEM', 'EROFS', 'EIO'];
const retryDelaysMs = [500, 2000, 10_000, 60_000, 300_000];

interface OwnedDir {
  readonly path: string;
  readonly lockPath: string;
  readonly lock: LockHandle;
}

/** Removes it now, or in the background when that cannot be done now. What is never removed, the next start removes. */
async function removeSoon(owned: OwnedDir, attempt: number): Promise<void> {
  try {
    await removeDir(owned);
  } catch (error) {
    const delayMs = retryDelaysMs[attempt];
    if (delayMs === undefined || !hasCode(error, ...passingTrouble)) {
      owned.lock.release();
      throw error;
    }
    setTimeout(() => void removeSoon(owned, attempt + 1).catch(() => undefined), delayMs).unref();
    return;
  }
  owned.lock.release();
}

async function removeDir({ path, lockPath }: OwnedDir): Promise<void> {
  // What it leaves is dealt with, or reported, here.
  await removeWithProgram(path).catch(() => undefined);
  await removeTree(path, { detachMounts: true });
  await unlink(lockPath).catch((error: unknown) => {
    if (!hasCode(error, 'ENOENT')) throw error;
  });
}

/** Deletes the temporary folders whose owners are gone. */
export async function recoverTempDirs(parent: string, log: Logger): Promise<void> {
  const randoms = new Set<string>();
  for (const name of await listNames(parent)) {
    const match = /^(?:lock|temp-dir)-(.+)$/.exec(name);
    if (match?.[1] !== undefined) randoms.add(match[1]);
  }
  for (const random of randoms) {
    try {
      await recoverOne(parent, random, log);
    } catch (error) {
      log.warn(`clean up temporary folder "${parent}/temp-dir-${random}"`, error);
    }
  }
}

async function recoverOne(parent: string, random: string, log: Logger): Promise<void> {
  const lockPath = `${parent}/lock-${random}`;
  const lock = tryAcquireFileLock(lockPath, 'write');
  if (lock === undefined) return;
  log.debug(`clean up temporary folder "${parent}/temp-dir-${random}" of a program that ended`);
  try {
    await removeDir({ path: `${parent}/temp-dir-${random}`, lockPath, lock });
  } finally {
    lock.release();
  }
}

export async function listNames(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}
