import { readFile } from 'node:fs/promises';
import { hasCode, messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { FileCalls } from '../file-calls.ts';
import { prepareWrite } from './atomic-write.ts';
import type { PreparedWrite } from './atomic-write.ts';
import { FieldError, integerField, textField } from './json-fields.ts';
import { parseRecords } from './parse-records.ts';

interface MountCount {
  readonly path: string;
  readonly count: number;
  /** As it stands in the file */
  readonly text: string;
}

function mountCount(id: string, path: string, count: number): MountCount {
  return { path, count, text: JSON.stringify({ id, path, count }) };
}

/**
 * `mountpoints.json`: how often each layer is mounted, and where. It lies in the run root and is never synced.
 * A missing entry proves nothing: old programs drop those of layers that they do not know.
 */
export class MountCounts {
  readonly #path: string;
  readonly #log: Logger;
  readonly #calls: FileCalls;
  #counts = new Map<string, MountCount>();
  #isDirty = false;

  constructor(path: string, log: Logger, calls: FileCalls) {
    this.#calls = calls;
    this.#path = path;
    this.#log = log;
  }

  count(layerId: string): number {
    return this.#counts.get(layerId)?.count ?? 0;
  }

  set(layerId: string, path: string, count: number): void {
    const before = this.#counts.get(layerId);
    if ((before?.count ?? 0) === count && before?.path === path) return;
    if (count > 0) this.#counts.set(layerId, mountCount(layerId, path, count));
    else if (!this.#counts.delete(layerId)) return;
    this.#isDirty = true;
  }

  get isDirty(): boolean {
    return this.#isDirty;
  }

  async load(): Promise<void> {
    let text = '';
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    this.#counts = new Map();
    this.#isDirty = false;
    for (const raw of parseRecords(text).records) {
      try {
        const count = integerField(raw, 'count') ?? 0;
        const id = textField(raw, 'id');
        if (count > 0) this.#counts.set(id, mountCount(id, textField(raw, 'path'), count));
      } catch (error) {
        if (!(error instanceof FieldError)) throw error;
        this.#log.warn(`mount count in "${this.#path}" is ignored: ${messageOf(error)}`);
      }
    }
  }

  async prepareSave(): Promise<readonly PreparedWrite[]> {
    if (!this.#isDirty) return [];
    this.#isDirty = false;
    const list = Array.from(this.#counts.values(), ({ text }) => text).join(',');
    return [await prepareWrite(this.#path, Buffer.from(`[${list}]`), { durable: false, calls: this.#calls })];
  }
}
