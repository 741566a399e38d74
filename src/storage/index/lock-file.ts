import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { atPath, hasCode } from '../../base/errors.ts';
import { acquireFileLock, tryAcquireFileLock } from '../../sys/lock.ts';
import type { LockHandle, LockMode } from '../../sys/lock.ts';
import { pooledCalls } from '../file-calls.ts';
import type { FileCalls } from '../file-calls.ts';

const tokenLength = 64;
let tokenCounter = 0n;

/**
 * A lock file of the store and the last-write token in it: 64 bytes that every writer replaces before it renames a new
 * index into place. A token other than the one of our last load means that another program wrote.
 */
export class LockFile {
  readonly path: string;
  readonly #calls: FileCalls;
  /** Token of the last load or own write; undefined before the first load. */
  #known: Buffer | undefined;
  /** Kept open to look at the token without taking the lock. */
  #watchFd: number | undefined;

  constructor(path: string, calls: FileCalls = pooledCalls) {
    this.path = path;
    this.#calls = calls;
  }

  async acquire(mode: LockMode): Promise<LockHandle> {
    return tryAcquireFileLock(this.path, mode) ?? (await acquireFileLock(this.path, mode));
  }

  /** The token as it is now; empty when nobody wrote one. Must be read before the data it stands for. */
  readToken(): Buffer {
    const token = Buffer.alloc(tokenLength);
    try {
      this.#watchFd ??= openSync(this.path, 'r');
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return token.subarray(0, 0);
      throw error;
    }
    try {
      return token.subarray(0, readSync(this.#watchFd, token, 0, tokenLength, 0));
    } catch (error) {
      throw atPath(error, this.path);
    }
  }

  /** True when another program wrote since `remember`. */
  isChanged(): boolean {
    return this.#known === undefined || !this.#known.equals(this.readToken());
  }

  remember(token: Buffer): void {
    this.#known = token;
  }

  /** The next `isChanged` is true whatever the token says. */
  forget(): void {
    this.#known = undefined;
  }

  /** Writes a new token; the write lock is held. Not synced: after a crash every reader loads anyway. */
  async touch(held: LockHandle): Promise<void> {
    const token = newToken();
    try {
      await this.#calls.write(held.fd, token, 0, 0);
    } catch (error) {
      throw atPath(error, this.path);
    }
    this.#known = token;
  }

  close(): void {
    if (this.#watchFd !== undefined) closeSync(this.#watchFd);
    this.#watchFd = undefined;
  }
}

const processToken = randomBytes(tokenLength);

/** Time in ns, a counter, the pid, then bytes that are this process's own; readers only compare. */
function newToken(): Buffer {
  const token = Buffer.from(processToken);
  token.writeBigUInt64LE(BigInt(Date.now()) * 1_000_000n, 0);
  token.writeBigUInt64LE(++tokenCounter, 8);
  token.writeUInt32LE(process.pid, 16);
  return token;
}
