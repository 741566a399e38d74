import { closeSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { O_CLOEXEC, O_CREAT, O_RDONLY, O_RDWR } from './arch.ts';
import { bind, lastErrno, sysError } from './libc.ts';
import type { Pointer } from './libc.ts';

const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;

const c = {
  fcntl: bind<(fd: number, command: number, lock: Pointer) => number>('int fcntl(int fd, int cmd, void *lock)'),
};

export type LockMode = 'read' | 'write';

/** A held lock. Releasing twice is harmless. */
export interface LockHandle extends Disposable {
  /** Open for reading and writing with a write lock, for reading only with a read lock. */
  readonly fd: number;
  readonly mode: LockMode;
  release(): void;
}

/** Attempts come quickly at first, then every `maxPauseMs`: lock files are held for milliseconds as a rule. */
const firstPauseMs = 1;
const maxPauseMs = 20;

/**
 * Locks a whole file for reading or writing: open-file-description locks (fcntl(2), F_OFD_SETLK), which conflict with
 * the POSIX locks of other programs, and with another handle in this process. The file is created (0644) if need be.
 * Waits without blocking the event loop or a thread of the pool: a blocking fcntl could hold one for minutes.
 * Rejects with the signal's reason.
 */
export async function acquireFileLock(
  path: string,
  mode: LockMode,
  options: { signal?: AbortSignal } = {},
): Promise<LockHandle> {
  const fd = openLockFile(path, mode);
  try {
    for (let pauseMs = firstPauseMs; !lockNow(fd, mode, path); pauseMs = Math.min(pauseMs * 2, maxPauseMs)) {
      await sleep(pauseMs, undefined, options.signal === undefined ? {} : { signal: options.signal });
    }
    return createHandle(fd, mode);
  } catch (error) {
    closeSync(fd);
    throw options.signal?.aborted === true ? options.signal.reason : error;
  }
}

/** Like `acquireFileLock`; undefined when somebody else holds it. */
export function tryAcquireFileLock(path: string, mode: LockMode): LockHandle | undefined {
  const fd = openLockFile(path, mode);
  try {
    if (lockNow(fd, mode, path)) return createHandle(fd, mode);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  closeSync(fd);
  return undefined;
}

function openLockFile(path: string, mode: LockMode): number {
  return openSync(path, (mode === 'write' ? O_RDWR : O_RDONLY) | O_CREAT | O_CLOEXEC, 0o644);
}

/** struct flock: type, whence 0, start 0, length 0 (to the end), pid 0 as OFD locks require. */
function lockNow(fd: number, mode: LockMode, path: string): boolean {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(mode === 'write' ? F_WRLCK : F_RDLCK, 0);
  if (c.fcntl(fd, F_OFD_SETLK, lock) === 0) return true;
  const errno = lastErrno();
  const { EAGAIN, EACCES, EINTR } = constants.errno;
  if (errno === EAGAIN || errno === EACCES || errno === EINTR) return false;
  throw sysError(errno, 'fcntl', path);
}

/** Closing the descriptor drops the lock: no other one shares its open file description. */
function createHandle(fd: number, mode: LockMode): LockHandle {
  let held = true;
  const release = () => {
    if (!held) return;
    held = false;
    closeSync(fd);
  };
  return { fd, mode, release, [Symbol.dispose]: release };
}
