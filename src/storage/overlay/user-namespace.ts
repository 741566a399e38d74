import { closeSync, openSync, readlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { CrioError, wrap } from '../../base/errors.ts';
import type { IdMapping } from '../../pod/config.ts';
import { spawn } from '../../sys/spawn.ts';
import type { ChildHandle } from '../../sys/spawn.ts';

const startMs = 2000;

/**
 * Opens a user namespace with these mappings: id-mapped mounts take one as the form of a mapping. A program holds it for
 * a moment, as a thread of the daemon cannot enter a user namespace. The caller closes the descriptor.
 */
export async function openUserNamespace(uidMap: readonly IdMapping[], gidMap: readonly IdMapping[]): Promise<number> {
  const child = spawn({
    file: 'unshare',
    args: ['--user', 'cat'],
    env: { PATH: process.env['PATH'] ?? '' },
    stdio: ['pipe', 'null', 'null'],
  });
  try {
    await untilUnshared(child);
    writeFileSync(`/proc/${child.pid}/uid_map`, mapText(uidMap));
    writeFileSync(`/proc/${child.pid}/gid_map`, mapText(gidMap));
    return openSync(`/proc/${child.pid}/ns/user`, 'r');
  } catch (error) {
    throw wrap('make a user namespace for id-mapped mounts', error);
  } finally {
    child.stdin?.destroy();
    child.kill(9);
    await child.exited;
    child.close();
  }
}

async function untilUnshared(child: ChildHandle): Promise<void> {
  const own = readlinkSync('/proc/self/ns/user');
  for (const end = performance.now() + startMs; performance.now() < end; await sleep(1)) {
    if (readlinkSync(`/proc/${child.pid}/ns/user`) !== own) return;
  }
  throw new CrioError('internal', 'unshare did not start');
}

function mapText(maps: readonly IdMapping[]): string {
  return maps.map((map) => `${map.containerId} ${map.hostId} ${map.size}\n`).join('');
}

/** Host id of the container's root; undefined when it is not mapped. */
export function mappedRoot(maps: readonly IdMapping[]): number | undefined {
  const map = maps.find((candidate) => candidate.containerId === 0 && candidate.size > 0);
  return map?.hostId;
}

/** Keeps descriptors of the mappings last used: containers of one pod have the same. */
export class UserNamespaces implements Disposable {
  readonly #open = new Map<string, number>();
  readonly #limit = 8;

  async get(uidMap: readonly IdMapping[], gidMap: readonly IdMapping[]): Promise<number> {
    const key = `${mapText(uidMap)}/${mapText(gidMap)}`;
    const known = this.#open.get(key);
    if (known !== undefined) return known;
    const fd = await openUserNamespace(uidMap, gidMap);
    const other = this.#open.get(key);
    if (other !== undefined) {
      closeSync(fd);
      return other;
    }
    const oldest = this.#open.keys().next();
    if (this.#open.size >= this.#limit && oldest.done !== true) this.#close(oldest.value);
    this.#open.set(key, fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const key of [...this.#open.keys()]) this.#close(key);
  }

  #close(key: string): void {
    const fd = this.#open.get(key);
    if (fd !== undefined) closeSync(fd);
    this.#open.delete(key);
  }
}
