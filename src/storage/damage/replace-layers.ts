import { rename } from 'node:fs/promises';
import { wrap } from '../../base/errors.ts';
import type { Driver } from '../driver.ts';
import { syncPath } from '../index/atomic-write.ts';
import { tarSplitPath } from '../paths.ts';
import { layersAbove } from '../layers-above.ts';
import { parentsFirst } from '../parents-first.ts';
import type { StagedLayer } from '../staged-layer.ts';
import type { StoreState } from '../store-state.ts';

/**
 * Gives damaged layers that are in the index the content that was unpacked anew. Their records stay: what belongs to an id
 * is the same. All locks are held. Containers that are mounted go on with what they have.
 */
export async function replaceLayers(
  { state, driver }: { readonly state: StoreState; readonly driver: Driver },
  damaged: readonly StagedLayer[],
): Promise<void> {
  if (damaged.length === 0) return;
  const keepsOld = await anyMounted(state, driver);
  const ids = new Set(damaged.map(({ id }) => id));
  const above = layersAbove(state.layers.list(), [...ids]);
  for (const layer of parentsFirst(damaged, (id) => !ids.has(id))) {
    try {
      await driver.finishStaging(layer.diffFolder, layer.parent);
      await driver.replace(layer.id, {
        parent: layer.parent,
        content: layer.diffFolder,
        above: above.get(layer.id) ?? [],
        keepsOld,
      });
      await rename(layer.tarSplit, tarSplitPath(state.paths.layers, layer.id));
    } catch (error) {
      throw wrap(`replace damaged layer "${layer.id}" below "${driver.home}"`, error);
    }
  }
  await driver.sync([...ids]);
  await syncPath(state.paths.layers);
  state.step('layers replaced');
}

/** Whether one of them uses a layer is not asked for each: a copy too many goes with its layer. */
async function anyMounted(state: StoreState, driver: Driver): Promise<boolean> {
  for (const { layerId } of state.containers.list())
    if (layerId !== '' && (await driver.isMounted(layerId))) return true;
  return false;
}
