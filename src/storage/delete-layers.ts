import type { Driver } from './driver.ts';
import { withIncomplete } from './index/layer-record.ts';
import { tarSplitPath } from './paths.ts';
import type { StoreState, Transaction } from './store-state.ts';
import type { TempDir } from './temp-dirs.ts';

/**
 * Deletes image layers, children first. They are marked incomplete on disk before anything of them goes: whoever loads
 * the index after a crash in between finishes the work.
 */
export async function deleteLayers(
  context: { state: StoreState; driver: Driver; trash: TempDir; transaction: Transaction },
  ids: readonly string[],
): Promise<void> {
  const { state, driver, trash, transaction } = context;
  if (ids.length === 0) return;
  for (const id of ids) {
    const raw = state.layers.raw(id);
    if (raw !== undefined) state.layers.put(withIncomplete(raw, true), state.files.imageLayers);
  }
  await transaction.save();
  state.step('layers marked');
  for (const id of ids) {
    await driver.unmount(id);
    await driver.remove(id, trash);
    await trash.take(tarSplitPath(state.paths.layers, id));
    await trash.take(`${state.paths.layers}/${id}`);
    state.mounts.set(id, '', 0);
    state.layers.remove(id);
  }
  state.step('layers moved away');
  await transaction.save();
  state.step('layers removed');
}
