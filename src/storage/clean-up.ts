import { isId } from '../base/ids.ts';
import type { CrashNote } from '../sys/crash-note.ts';
import { deleteLayers, layersOfNobody } from './delete-layers.ts';
import type { Driver } from './driver.ts';
import { finishUpdates } from './image-update.ts';
import { removeTree } from './remove-tree.ts';
import type { StoreState, Transaction } from './store-state.ts';
import { listNames, recoverTempDirs } from './temp-dirs.ts';
import type { TempDir } from './temp-dirs.ts';
import { transientIds, transientParents } from './transient-records.ts';
import type { Trash } from './trash.ts';

/**
 * Takes away what interrupted operations left: layers marked incomplete, layers of ours without an image, temporary
 * folders whose owner is gone, temporary files, and everything on disk that no index names. Nothing of the latter is
 * touched while an index had unreadable records, nor a layer without an image: it may belong to them.
 */
export async function cleanUp(context: {
  state: StoreState;
  driver: Driver;
  trash: Trash;
  loose: CrashNote;
}): Promise<void> {
  const { state, driver, loose } = context;
  const { paths, log } = state;
  for (const folder of new Set([driver.stagingParent, `${driver.home}/tempdirs`])) await recoverTempDirs(folder, log);
  await recoverTempDirs(`${paths.layers}/tmp`, log);
  await recoverTempDirs(`${paths.runContainers}/tmp`, log);
  await state.transact(
    (transaction) => context.trash.use((trash) => removeLeftovers({ state, driver, trash, transaction, loose })),
    {
      alone: true,
    },
  );
}

async function removeLeftovers(context: {
  state: StoreState;
  driver: Driver;
  trash: TempDir;
  transaction: Transaction;
  loose: CrashNote;
}): Promise<void> {
  const { state, driver, trash } = context;
  const { paths, log } = state;
  const incomplete = state.layers.list().filter((layer) => layer.isIncomplete);
  for (const layer of incomplete) log.warn(`layer "${layer.id}" is incomplete: deleted`);
  await deleteLayers(
    context,
    incomplete.map((layer) => layer.id),
  );
  // The data of an image is written before the locks are taken: beside another process it may be in the middle of that.
  if (context.loose.isFirst) await removeTemporaryFiles(state);
  if (state.layers.hasDamage || state.images.hasDamage || state.containers.hasDamage) return;
  await finishUpdates(state, context.transaction);
  const elsewhere = await transientIds(state);
  finishContainers(state, new Set(await driver.list()));
  await removeLoose(context);
  for (const id of await driver.list()) {
    if (state.layers.get(id) !== undefined || elsewhere.has(id)) continue;
    log.warn(`layer folder "${id}" is in no index: deleted`);
    await driver.unmount(id);
    await driver.remove(id, trash);
  }
  await driver.removeStale((id) => state.layers.get(id) !== undefined || elsewhere.has(id));
  await removeUnknown(paths.layers, (id) => state.layers.get(id) !== undefined);
  for (const folder of paths.imageFolders) await removeUnknown(folder, (id) => state.hasImageIn(folder, id));
  await removeUnknown(paths.containers, (id) => state.containers.get(id) !== undefined || elsewhere.has(id));
  await removeUnknown(paths.runContainers, (id) => state.containers.get(id) !== undefined || elsewhere.has(id));
}

/** Layers that a pull or removal of ours left, as far as nobody has them by now. */
async function removeLoose(context: Parameters<typeof removeLeftovers>[0]): Promise<void> {
  const { state, loose } = context;
  const noted = new Set(loose.list());
  if (noted.size === 0) return;
  const ids = layersOfNobody(state, await transientParents(state), ({ id }) => noted.has(id));
  for (const id of ids) state.log.warn(`layer "${id}" of an interrupted pull or removal has no image: deleted`);
  await deleteLayers(context, ids);
  loose.forget([...noted]);
}

/**
 * Creations and deletions of containers that were cut short: one whose layer is gone was being deleted, and a writable
 * layer that no container has was being created. Their records go here, their data with everything else unnamed.
 */
function finishContainers(state: StoreState, folders: ReadonlySet<string>): void {
  const { layers, containers, files, log } = state;
  for (const { id, layerId } of [...containers.list()]) {
    if (layerId === '' || folders.has(layerId)) continue;
    log.warn(`container "${id}" has no layer any more: deleted`);
    containers.remove(id);
  }
  const used = new Set(containers.list().map((container) => container.layerId));
  for (const { id } of [...layers.list()]) {
    if (used.has(id) || layers.fileOf(id) !== files.containerLayers) continue;
    log.warn(`layer "${id}" belongs to no container: deleted`);
    layers.remove(id);
    state.mounts.set(id, '', 0);
  }
}

/** All locks are held, so no other program is in the middle of a write of an index. */
async function removeTemporaryFiles(state: StoreState): Promise<void> {
  const { layers, imageFolders, containers, runLayers } = state.paths;
  for (const folder of [layers, ...imageFolders, containers, runLayers]) {
    for (const name of await listNames(folder)) if (name.startsWith('.tmp-')) await removeTree(`${folder}/${name}`);
  }
}

/** Data folders, and tar-split files, named by an id that no record has. */
async function removeUnknown(folder: string, isKnown: (id: string) => boolean): Promise<void> {
  for (const name of await listNames(folder)) {
    const id = name.endsWith('.tar-split.gz') ? name.slice(0, -'.tar-split.gz'.length) : name;
    if (isId(id) && !isKnown(id)) await removeTree(`${folder}/${name}`, { detachMounts: true });
  }
}
