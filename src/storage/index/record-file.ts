import { readFile } from 'node:fs/promises';
import { statSync } from 'node:fs';
import { hasCode } from '../../base/errors.ts';
import type { FileCalls } from '../file-calls.ts';
import type { JsonObject } from './json-fields.ts';

export interface RecordFileOptions {
  readonly path: string;
  /** Synced at every save; files of what a reboot ends are not. */
  readonly durable: boolean;
  readonly calls?: FileCalls;
}

export interface Entry<R> {
  readonly record: R;
  readonly raw: JsonObject;
  /** The record as it stands in the file: a save joins these instead of serialising a thousand records anew. */
  readonly text: Buffer;
}

export interface RecordFile<R> extends RecordFileOptions {
  entries: Map<string, Entry<R>>;
  /** Records whose id an earlier file has: nobody sees them, and the file keeps them, before those that are seen. */
  hidden: Map<string, Entry<R>>;
  mtimeNs: bigint | undefined;
  dirty: boolean;
}

const open = Buffer.from('[');
const comma = Buffer.from(',');
const close = Buffer.from(']');

export function join<R>(entries: readonly Entry<R>[]): Buffer {
  const parts: Buffer[] = [open];
  for (const entry of entries) {
    if (parts.length > 1) parts.push(comma);
    parts.push(entry.text);
  }
  parts.push(close);
  return Buffer.concat(parts);
}

export async function readText(path: string): Promise<{ text: string; mtimeNs: bigint | undefined } | undefined> {
  // The time is read first: a file replaced in between is then seen as changed at the next look.
  const mtimeNs = mtimeOf(path);
  try {
    return { text: await readFile(path, 'utf8'), mtimeNs };
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

export function mtimeOf(path: string): bigint | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.mtimeNs;
}
