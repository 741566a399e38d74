import { readFile } from 'node:fs/promises';
import { CrioError, wrap } from '../../base/errors.ts';
import type { JsonReader } from '../json.ts';
import { decodeBase64 } from './base64.ts';

/** Where one key or set of certificates is: a file, read at each use, or the policy itself. */
export type KeySource = { readonly path: string } | { readonly data: Buffer };

/** What a source holds, and its name for error texts. */
export interface KeyText {
  readonly data: Buffer;
  readonly name: string;
}

/**
 * Reads those of the keys `<base>Path`, `<base>Paths`, `<base>Data`, `<base>Datas` that are allowed; at most one may be
 * there. Undefined for none.
 */
export function readKeySources(
  reader: JsonReader,
  base: string,
  suffixes: readonly ('Path' | 'Paths' | 'Data' | 'Datas')[],
): readonly KeySource[] | undefined {
  const present = suffixes.filter((suffix) => reader.has(base + suffix));
  const [suffix] = present;
  if (suffix === undefined) return undefined;
  const key = base + suffix;
  if (present.length > 1)
    throw new CrioError(
      'invalid',
      `${reader.path}: ${present.map((name) => base + name).join(' and ')} exclude each other`,
    );
  const isList = suffix === 'Paths' || suffix === 'Datas';
  const values = isList ? reader.strings(key) : [reader.string(key) ?? ''];
  if (values.length === 0) throw new CrioError('invalid', `${reader.path}: "${key}" contains no entries`);
  if (values.includes('')) throw new CrioError('invalid', `${reader.path}: "${key}" is empty`);
  if (suffix === 'Path' || suffix === 'Paths') return values.map((path) => ({ path }));
  return values.map((text) => ({ data: decodeBase64(text, `${reader.path}.${key}`) }));
}

/** The files are read now: a key that was exchanged counts at once. */
export async function loadKeySources(sources: readonly KeySource[], what: string): Promise<readonly KeyText[]> {
  return Promise.all(
    sources.map(async (source) => {
      if ('data' in source) return { data: source.data, name: `${what} in the policy` };
      try {
        return { data: await readFile(source.path), name: `${what} "${source.path}"` };
      } catch (error) {
        throw wrap(`read ${what} "${source.path}"`, error);
      }
    }),
  );
}
