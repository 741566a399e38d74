import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hasCode } from '../base/errors.ts';
import { isJsonObject, type Json } from '../base/go-json.ts';
import { isId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';

/** What a creation makes outside of the store, and who has to be undone when the daemon is killed in the middle. */
export interface PendingPod {
  readonly id: string;
  /** Pinned namespaces */
  readonly namespacePaths: readonly string[];
  /** Below each hierarchy's mount; `` when none is made */
  readonly cgroup: string;
  readonly shmPath: string;
}

/**
 * One small file per pod that is being made, in a folder of /run: written before the first step and gone after the last.
 * A reboot takes all of it away together, so nothing is synced, and the calls are synchronous (tmpfs).
 */
export class PendingPods {
  readonly #directory: string;
  readonly #log: Logger;

  constructor(directory: string, log: Logger) {
    this.#directory = directory;
    this.#log = log;
  }

  write(pod: PendingPod): void {
    const text = JSON.stringify({ version: 1, ...pod });
    try {
      writeFileSync(this.#fileOf(pod.id), text, { mode: 0o600 });
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      writeFileSync(this.#fileOf(pod.id), text, { mode: 0o600 });
    }
  }

  remove(id: string): void {
    rmSync(this.#fileOf(id), { force: true });
  }

  /**
   * What a daemon that was killed left; a record that was cut off (killed while it was written) has made nothing yet.
   * What is no record is left alone.
   */
  list(): PendingPod[] {
    let names: string[];
    try {
      names = readdirSync(this.#directory);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
    return names.flatMap((name) => this.#read(name) ?? []);
  }

  /** Processes are ended by the id, so it must be one. */
  #read(name: string): PendingPod | undefined {
    const path = `${this.#directory}/${name}`;
    const id = name.replace(/\.json$/, '');
    if (!isId(id)) {
      this.#log.warn(`"${path}" is not the record of a pod, it is left alone`);
      return undefined;
    }
    try {
      const record = parsePending(readFileSync(path, 'utf8'));
      return record?.id === id ? record : { id, namespacePaths: [], cgroup: '', shmPath: '' };
    } catch (error) {
      this.#log.warn(`read "${path}"`, error);
      return undefined;
    }
  }

  #fileOf(id: string): string {
    return `${this.#directory}/${id}.json`;
  }
}

function parsePending(text: string): PendingPod | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isJsonObject(value) || value['version'] !== 1 || typeof value['id'] !== 'string') return undefined;
  const paths = value['namespacePaths'];
  return {
    id: value['id'],
    namespacePaths: Array.isArray(paths) ? paths.filter((path: Json) => typeof path === 'string') : [],
    cgroup: typeof value['cgroup'] === 'string' ? value['cgroup'] : '',
    shmPath: typeof value['shmPath'] === 'string' ? value['shmPath'] : '',
  };
}
