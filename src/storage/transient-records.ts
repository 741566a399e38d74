import { readFile } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';
import { parseRecords } from './index/parse-records.ts';
import type { StoreState } from './store-state.ts';

/** Layers and containers of programs that keep such records in the run root (`transient_store`); we only leave them alone. */
export async function transientIds({ paths }: StoreState): Promise<ReadonlySet<string>> {
  const { runLayers, runContainers } = paths;
  const ids = new Set<string>();
  for (const file of [`${runLayers}/volatile-layers.json`, `${runContainers}/volatile-containers.json`]) {
    for (const { id } of parseRecords(await readOrEmpty(file)).records) if (typeof id === 'string') ids.add(id);
  }
  return ids;
}

/** What is below their layers. */
export async function transientParents({ paths }: StoreState): Promise<readonly string[]> {
  const { records } = parseRecords(await readOrEmpty(`${paths.runLayers}/volatile-layers.json`));
  return records.flatMap(({ parent }) => (typeof parent === 'string' ? [parent] : []));
}

async function readOrEmpty(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}
