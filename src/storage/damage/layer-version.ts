import { lstat } from 'node:fs/promises';
import { messageOf } from '../../base/errors.ts';
import type { CheckContext } from './find-damage.ts';

/**
 * Tells a layer from another one of its id: a pull replaces the content of a damaged layer, a removal and a pull all of it.
 * Changes with either. Undefined when there is no such layer of the own store, or one that is being added or deleted.
 */
export async function layerVersion({ state, driver }: CheckContext, id: string): Promise<string | undefined> {
  await state.refresh('layers');
  if (state.layers.get(id)?.isIncomplete !== false) return undefined;
  const created = String(state.layers.raw(id)?.['created']);
  try {
    const folder = (await driver.plainContent(id)) ?? driver.contentFolder(id);
    const { dev, ino } = await lstat(folder, { bigint: true });
    return `${created} ${dev}:${ino}`;
  } catch (error) {
    return `${created} ${messageOf(error)}`;
  }
}
