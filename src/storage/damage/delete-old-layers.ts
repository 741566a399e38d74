import { parseTimeNs, systemClock } from '../../base/clock.ts';
import { deleteLayers, layersOfNobody } from '../delete-layers.ts';
import type { IndexedLayer } from '../index/layer-record.ts';
import type { StoreState } from '../store-state.ts';
import type { Trash } from '../trash.ts';
import { otherTops } from './find-damage.ts';
import type { CheckContext } from './find-damage.ts';

/** What `crio check` calls old, and CRI-O's own repair at its start. */
const maxAgeNs = 24n * 3_600_000_000_000n;

/**
 * Image layers that nothing refers to, as other programs leave them that were killed. Younger ones may belong to a pull
 * that goes on; ones with a name belong to whoever gave it.
 */
export async function deleteOldLayers(context: CheckContext & { readonly trash: Trash }): Promise<void> {
  const { state, driver, trash } = context;
  const oldest = systemClock.nowNs() - maxAgeNs;
  const isOld = ({ id, names }: IndexedLayer) => {
    const createdNs = layerCreatedNs(state, id);
    return names.length === 0 && createdNs !== undefined && createdNs < oldest;
  };
  await state.transact(
    async (transaction) => {
      if (state.layers.hasDamage || state.images.hasDamage || state.containers.hasDamage) return;
      const ids = layersOfNobody(state, await otherTops(context), isOld);
      for (const id of ids) state.log.warn(`layer "${id}" is in no image for more than a day: deleted`);
      await trash.use((folder) => deleteLayers({ state, driver, trash: folder, transaction }, ids));
    },
    { alone: true },
  );
}

/** Undefined when the record does not say. */
export function layerCreatedNs(state: StoreState, layerId: string): bigint | undefined {
  const created = state.layers.raw(layerId)?.['created'];
  const ns = typeof created === 'string' ? parseTimeNs(created) : undefined;
  return ns === 0n ? undefined : ns;
}
