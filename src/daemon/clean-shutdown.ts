import { mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isThere } from '../base/is-there.ts';

/**
 * The marker that tells a clean stop from a crash (cli 5): `<file>` exists between a clean stop and the next start,
 * `<file>.supported` says that this protocol was in force. An empty path turns it off.
 */
export async function wasStoppedCleanly(path: string): Promise<boolean> {
  if (path === '') return true;
  return !(await isThere(`${path}.supported`)) || (await isThere(path));
}

/** From now on a missing marker means a crash. Durable before the daemon serves. */
export async function markRunning(path: string): Promise<void> {
  if (path === '') return;
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await rm(path, { force: true });
  await touch(`${path}.supported`);
  await syncFolder(dirname(path));
}

export async function markStopped(path: string): Promise<void> {
  if (path === '') return;
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await touch(path);
  await syncFolder(dirname(path));
}

async function touch(path: string): Promise<void> {
  await using file = await open(path, 'a', 0o644);
  await file.sync();
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}
