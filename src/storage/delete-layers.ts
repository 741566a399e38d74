import type { Driver } from './driver.ts';
import { withIncomplete } from './index/layer-record.ts';
import type { IndexedLayer } from './index/layer-record.ts';
import { parentsFirst } from './parents-first.ts';
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

/** Mapped copies of the top layer, then the chain downwards as long as nothing else needs a layer. */
export function unusedLayers(
  state: StoreState,
  image: { readonly topLayer: string | undefined; readonly mappedLayers: readonly string[] },
  held: readonly string[] = [],
): string[] {
  const used = new Set<string>(held);
  for (const other of [...state.images.list(), ...state.images.listHidden()])
    for (const id of [other.topLayer, ...other.mappedLayers]) if (id !== undefined) used.add(id);
  for (const container of state.containers.list()) used.add(container.layerId);
  const children = new Map<string, number>();
  for (const { parent } of state.layers.list())
    if (parent !== undefined) children.set(parent, (children.get(parent) ?? 0) + 1);
  const unused: string[] = [];
  const drop = (id: string) => {
    if (used.has(id) || (children.get(id) ?? 0) > 0) return undefined;
    const layer = state.layers.get(id);
    if (layer === undefined) return undefined;
    unused.push(id);
    if (layer.parent !== undefined) children.set(layer.parent, (children.get(layer.parent) ?? 1) - 1);
    return layer.parent;
  };
  for (const mapped of image.mappedLayers) drop(mapped);
  for (let id = image.topLayer; id !== undefined;) id = drop(id);
  return unused;
}

/**
 * Those of the image layers `isWanted` that are in the chain of no image and below no other layer, as that of a container
 * or an unwanted one; children first. Whoever deletes them holds the locks. `otherTops`: used by what is in no index of the
 * store.
 */
export function layersOfNobody(
  state: StoreState,
  otherTops: Iterable<string>,
  isWanted: (layer: IndexedLayer) => boolean,
): readonly string[] {
  const { layers, files } = state;
  const mayGo = (layer: IndexedLayer) =>
    layer.diffDigest !== undefined &&
    !layer.isIncomplete &&
    layers.fileOf(layer.id) !== files.containerLayers &&
    isWanted(layer);
  const used = new Set<string>();
  const use = (top: string | undefined) => {
    for (let id = top; id !== undefined && !used.has(id); id = layers.get(id)?.parent) used.add(id);
  };
  for (const { topLayer, mappedLayers } of [...state.images.list(), ...state.images.listHidden()])
    for (const id of [topLayer, ...mappedLayers]) use(id);
  for (const { layerId } of state.containers.list()) use(layerId);
  for (const layer of layers.list()) if (!mayGo(layer)) use(layer.id);
  for (const id of otherTops) use(id);
  const unused = layers.list().filter(({ id }) => !used.has(id));
  const ordered = parentsFirst(unused, (id) => layers.get(id) === undefined || used.has(id));
  return ordered.map(({ id }) => id).toReversed();
}
