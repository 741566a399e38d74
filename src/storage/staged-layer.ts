import { mkdir, rename } from 'node:fs/promises';
import { systemClock } from '../base/clock.ts';
import { CrioError, wrap } from '../base/errors.ts';
import { deleteLayers } from './delete-layers.ts';
import type { Driver } from './driver.ts';
import { syncPath } from './index/atomic-write.ts';
import { imageLayerJson, parseLayer, withIncomplete } from './index/layer-record.ts';
import type { IndexedLayer, LayerContent } from './index/layer-record.ts';
import { layersAbove } from './layers-above.ts';
import type { LayerAbove } from './layers-above.ts';
import { parentsFirst } from './parents-first.ts';
import { tarSplitPath } from './paths.ts';
import type { StoreState, Transaction } from './store-state.ts';
import { createTempDir } from './temp-dirs.ts';
import type { TempDir } from './temp-dirs.ts';

/** A layer that is unpacked and verified, but in no index yet: it lies in temporary folders that this process owns. */
export interface StagedLayer extends AsyncDisposable {
  readonly id: string;
  readonly parent: string | undefined;
  readonly record: IndexedLayer;
  readonly content: UnpackedContent;
  readonly diffFolder: string;
  readonly tarSplit: string;
  /** Of `WriteBack`, from before anything was written */
  readonly mark: number;
}

/** What unpacking found out. */
export interface UnpackedContent extends LayerContent {
  /** Inodes of the layer */
  readonly inodes: number;
}

/** Makes the temporary folders, has `unpack` fill them, and keeps them until the layer is added or disposed. */
export async function stageLayer(options: {
  id: string;
  parent: string | undefined;
  driver: Driver;
  layersFolder: string;
  /** Content of the parent, for drivers that unpack onto it */
  parentContent: string | undefined;
  mark: number;
  unpack: (target: { diffFolder: string; tarSplit: string }) => Promise<UnpackedContent>;
}): Promise<StagedLayer> {
  const { id, parent, driver, mark } = options;
  await using undo = new AsyncDisposableStack();
  const contentDir = undo.use(await createTempDir(driver.stagingParent));
  const tarSplitDir = undo.use(await createTempDir(`${options.layersFolder}/tmp`));
  const diffFolder = contentDir.entry('addition');
  const tarSplit = tarSplitDir.entry('addition');
  await mkdir(diffFolder, { mode: 0o700 });
  await driver.prepareStaging(diffFolder, options.parentContent);
  const content = await options.unpack({ diffFolder, tarSplit });
  const record = parseLayer(imageLayerJson(id, parent, content, systemClock.nowNs()));
  const owned = undo.move();
  const dispose = () => owned.disposeAsync();
  return { id, parent, record, content, diffFolder, tarSplit, mark, [Symbol.asyncDispose]: dispose };
}

/**
 * Adds staged layers to the index, parents first, in one transaction: records marked incomplete, then the moves, then
 * the records as they stay. Their data is on disk already. Gives the ids of those that were not in the index.
 */
export async function addStagedLayers(
  context: {
    state: StoreState;
    driver: Driver;
    transaction: Transaction;
    /** The layer is in an additional store. */
    isElsewhere: (id: string) => boolean;
    trash: TempDir;
  },
  staged: readonly StagedLayer[],
): Promise<readonly string[]> {
  const { state, driver, transaction } = context;
  // Left by a program that ended in the middle of what follows.
  const incomplete = state.layers.list().filter((layer) => layer.isIncomplete);
  await deleteLayers(
    context,
    incomplete.map((layer) => layer.id),
  );
  const isKnown = (id: string) => state.layers.get(id) !== undefined;
  const ordered = parentsFirst(
    staged.filter((layer) => !isKnown(layer.id)),
    (id) => isKnown(id) || context.isElsewhere(id),
  );
  if (ordered.length === 0) return [];
  const createdNs = systemClock.nowNs();
  const records = ordered.map((layer) => imageLayerJson(layer.id, layer.parent, layer.content, createdNs));
  for (const raw of records) state.layers.put(withIncomplete(raw, true), state.files.imageLayers);
  const ids = ordered.map((layer) => layer.id);
  try {
    await transaction.save();
    state.step('layers incomplete');
    const above = layersAbove(state.layers.list(), ids);
    for (const layer of ordered) {
      const others = (above.get(layer.id) ?? []).filter(({ id }) => !ids.includes(id));
      await moveIntoPlace(context, layer, others);
    }
    await driver.sync(ids);
    await syncPath(state.paths.layers);
  } catch (error) {
    await takeBack(context, ids);
    throw error;
  }
  state.step('layers in place');
  for (const raw of records) state.layers.put(raw, state.files.imageLayers);
  await transaction.save();
  state.step('layers added');
  return ids;
}

async function moveIntoPlace(
  { state, driver }: { readonly state: StoreState; readonly driver: Driver },
  layer: StagedLayer,
  above: readonly LayerAbove[],
): Promise<void> {
  try {
    await driver.finishStaging(layer.diffFolder, layer.parent);
    await driver.create(layer.id, { parent: layer.parent, content: layer.diffFolder, above });
    await rename(layer.tarSplit, tarSplitPath(state.paths.layers, layer.id));
  } catch (error) {
    throw wrap(`add layer "${layer.id}" below "${driver.home}"`, error);
  }
}

/** On a disk that refuses even this, the records stay incomplete: the next change of layers or the next start deletes them. */
async function takeBack(context: Parameters<typeof deleteLayers>[0], ids: readonly string[]): Promise<void> {
  try {
    await deleteLayers(context, ids);
  } catch (error) {
    context.state.log.warn('take back layers that were not added', error);
  }
}

export function checkDigest(what: string, expected: string | undefined, actual: string): void {
  if (expected === undefined || expected === actual) return;
  throw new CrioError('invalid', `${what} is ${actual}, expected ${expected}`);
}
