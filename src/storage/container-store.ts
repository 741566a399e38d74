import { systemClock } from '../base/clock.ts';
import { CrioError, hasCode, wrap } from '../base/errors.ts';
import { newId } from '../base/ids.ts';
import { KeyedLock } from '../base/keyed-lock.ts';
import type { Driver } from './driver.ts';
import type { FileCalls } from './file-calls.ts';
import { containerJson } from './index/container-record.ts';
import type { IndexedContainer } from './index/container-record.ts';
import { containerLayerJson } from './index/layer-record.ts';
import type { LayerSource } from './layer-store.ts';
import { removeTree } from './remove-tree.ts';
import type { ContainerRecord, ContainerStore, NewContainer } from './store.ts';
import type { StoreState } from './store-state.ts';
import type { TempDir } from './temp-dirs.ts';
import type { Trash } from './trash.ts';

export interface ContainerStoreOptions {
  readonly state: StoreState;
  readonly driver: Driver;
  /** In the graph root, also when image layers have another root */
  readonly containerTrash: Trash;
  /** The same in the run root, which is another file system. */
  readonly runTrash: Trash;
  readonly sources: LayerSource;
}

/** Of root file systems that this process mounted: how often other programs had shut their driver down before. */
type Shutdowns = Map<string, string>;

/** Containers of the store: a record, a writable layer, and a folder in each root. */
export function createContainerStore(options: ContainerStoreOptions): ContainerStore {
  const { state, driver } = options;
  const { paths } = state;
  /** One change of a container at a time: changes of different ones share a transaction. */
  const locks = new KeyedLock();
  const shutdowns: Shutdowns = new Map();
  const layerOf = (id: string) => state.containers.get(id)?.layerId ?? '';
  return {
    async list() {
      await state.refresh('containers');
      return state.containers.list();
    },
    async find(idOrName) {
      await state.refresh('containers');
      return state.containers.find(idOrName);
    },
    create: (container) => locks.run(container.id, () => create(options, container)),
    setMetadata: (id, metadata) =>
      state.transact(async () => {
        const raw = state.containers.raw(existing(state, id).id);
        state.containers.put({ ...raw, metadata }, state.files.containers);
      }),
    async delete(id, shouldDelete) {
      await locks.run(id, () => remove(options, id, shouldDelete));
      shutdowns.delete(id);
    },
    mount: (id) => locks.run(id, () => mount(options, id, shutdowns)),
    rootWasLost: (id) => rootWasLost(options, id, shutdowns),
    async unmount(id) {
      await locks.run(id, () => unmount(options, id));
      shutdowns.delete(id);
    },
    directory: (id) => `${paths.containers}/${id}/userdata`,
    runDirectory: (id) => `${paths.runContainers}/${id}/userdata`,
    upperDirectory(id) {
      const layer = layerOf(id);
      return layer === '' ? undefined : driver.upperDirectory(layer);
    },
    mountPoint: (id) => driver.mountPoint(layerOf(id)),
  };
}

async function create(options: ContainerStoreOptions, container: NewContainer): Promise<ContainerRecord> {
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(container.id))
    throw new CrioError('invalid', `container id "${container.id}" is not valid`);
  let added: ContainerRecord | undefined;
  try {
    return await options.state.transact(async () => (added = await add(options, container)));
  } catch (error) {
    if (added === undefined) throw error;
    await takeBack(options, added);
    throw inCreate(container, error);
  }
}

function inCreate(container: NewContainer, error: unknown): Error {
  return wrap(`create container "${container.id}" in storage`, error);
}

/** All locks are held: an image that is there now stays while the container is made. */
async function add(options: ContainerStoreOptions, container: NewContainer): Promise<ContainerRecord> {
  const { state, sources } = options;
  const parent = container.imageId === '' ? undefined : await sources.topLayer(container.imageId);
  if (state.containers.get(container.id) !== undefined) {
    throw new CrioError('already-exists', `container "${container.id}" exists`);
  }
  const isInIndex = parent === undefined || state.layers.get(parent)?.isIncomplete === false;
  if (!isInIndex && (await sources.findStored(parent)) === undefined) {
    throw new CrioError('not-found', `layer "${parent}" of image "${container.imageId}" is not in storage`);
  }
  const layerId = newId();
  const createdNs = systemClock.nowNs();
  const { mountLabel } = container;
  const layer = containerLayerJson({ id: layerId, name: container.layerName, parent, mountLabel, createdNs });
  state.layers.put(layer, state.files.containerLayers);
  try {
    const record = state.containers.put(containerJson(container, layerId, createdNs), state.files.containers);
    await makeLayer(options, container, layerId, parent);
    return record;
  } catch (error) {
    state.layers.remove(layerId);
    if (state.containers.get(container.id)?.layerId === layerId) state.containers.remove(container.id);
    throw inCreate(container, error);
  }
}

/** Of a container that was made, but the indexes could not be saved: on a disk that is full, say. */
async function takeBack(options: ContainerStoreOptions, container: ContainerRecord): Promise<void> {
  try {
    await discard(options, () => container);
  } catch (error) {
    options.state.log.warn(`take back container "${container.id}"`, error);
  }
}

/** All of it or nothing. */
async function makeLayer(
  options: ContainerStoreOptions,
  container: NewContainer,
  layerId: string,
  parent: string | undefined,
): Promise<void> {
  const { state, driver } = options;
  const folders: readonly (readonly [string, FileCalls])[] = [
    [`${state.paths.containers}/${container.id}`, state.graphCalls],
    [`${state.paths.runContainers}/${container.id}`, state.runCalls],
  ];
  try {
    // Each comes to its end before anything is taken back.
    const work = [
      driver.create(layerId, { parent }),
      ...folders.map(([folder, calls]) => makePrivateFolder(folder, calls)),
    ];
    for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
    if (container.mount !== true) return;
    const { mountLabel: label, uidMap, gidMap } = container;
    const root = await driver.mount(layerId, { isVolatile: true, label, uidMap, gidMap });
    state.mounts.set(layerId, root, 1);
  } catch (error) {
    await driver.unmount(layerId);
    await options.containerTrash.use((trash) => driver.remove(layerId, trash));
    for (const [folder] of folders) await removeTree(folder);
    throw error;
  }
}

async function makePrivateFolder(path: string, calls: FileCalls): Promise<void> {
  try {
    await calls.mkdir(path, 0o700);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    await removeTree(path);
    await calls.mkdir(path, 0o700);
  }
  await calls.mkdir(`${path}/userdata`, 0o700);
}

async function remove(
  options: ContainerStoreOptions,
  id: string,
  shouldDelete?: () => Promise<boolean>,
): Promise<void> {
  const { state } = options;
  await state.refresh('containers');
  if (state.containers.get(id) === undefined) return;
  await discard(options, () => state.containers.get(id), shouldDelete);
}

/** The container that `find` finds once the locks are held. Its record may be in no index: then what there is of it on disk. */
function discard(
  options: ContainerStoreOptions,
  find: () => ContainerRecord | undefined,
  shouldDelete?: () => Promise<boolean>,
): Promise<void> {
  const { state, containerTrash, runTrash } = options;
  return state.transact(
    async () => {
      if ((await shouldDelete?.()) === false) return;
      const container = find();
      if (container === undefined) return;
      await containerTrash.use((trash) =>
        runTrash.use((inRunRoot) => moveToTrash(options, container, { trash, inRunRoot })),
      );
    },
    // Nothing changes beside it from the answer on.
    { alone: shouldDelete !== undefined },
  );
}

/** Order of the format: layer, then both folders, then the record, so that a deletion cut short can be repeated. */
async function moveToTrash(
  { state, driver }: ContainerStoreOptions,
  { id, layerId }: ContainerRecord,
  { trash, inRunRoot }: { trash: TempDir; inRunRoot: TempDir },
): Promise<void> {
  if (layerId !== '') {
    await driver.unmount(layerId);
    await driver.remove(layerId, trash);
    state.mounts.set(layerId, '', 0);
    state.layers.remove(layerId);
  }
  await Promise.all([
    trash.take(`${state.paths.containers}/${id}`),
    inRunRoot.take(`${state.paths.runContainers}/${id}`),
  ]);
  state.containers.remove(id);
}

/** The count is a hint only: other programs drop entries, and detach mounts that have one. */
async function mount(options: ContainerStoreOptions, id: string, shutdowns: Shutdowns): Promise<string> {
  const { state, driver } = options;
  const known = state.containers.get(id);
  const before = state.driverShutdowns();
  if (known !== undefined && state.mounts.count(known.layerId) > 0 && (await driver.isMounted(known.layerId))) {
    shutdowns.set(id, before);
    return driver.mountPoint(known.layerId);
  }
  return state.transact(async () => {
    const { layerId, mountLabel, uidMap, gidMap, isVolatile } = existing(state, id);
    const path = driver.mountPoint(layerId);
    const isMounted = await driver.isMounted(layerId);
    if (!isMounted) {
      // One that another program's mount hides must not stay below the new one: they would share a writable folder.
      if (shutdowns.has(id) || state.mounts.count(layerId) > 0) await driver.unmount(layerId);
      await driver.mount(layerId, { isVolatile, label: mountLabel, uidMap, gidMap });
    }
    state.mounts.set(layerId, path, Math.max(1, state.mounts.count(layerId)));
    shutdowns.set(id, state.driverShutdowns());
    return path;
  });
}

/**
 * Between a mount and its use podman may bind the driver's home onto itself, which hides the mount, or detach that bind,
 * which takes along what was mounted on it (storage-format 7). The second leaves a token in `storage.lock`.
 */
async function rootWasLost(options: ContainerStoreOptions, id: string, shutdowns: Shutdowns): Promise<boolean> {
  const { state, driver } = options;
  const layerId = state.containers.get(id)?.layerId ?? '';
  if (layerId === '' || driver.upperDirectory(layerId) === undefined) return false;
  // In this order: once the mount is there again, whoever hid it has written the token, or has the lock until then.
  return !(await driver.isMounted(layerId)) || shutdowns.get(id) !== (await state.settledShutdowns());
}

async function unmount(options: ContainerStoreOptions, id: string): Promise<void> {
  const { state, driver } = options;
  await state.refresh('containers');
  const known = state.containers.get(id);
  if (known === undefined) return;
  if (state.mounts.count(known.layerId) === 0 && !(await driver.isMounted(known.layerId))) return;
  await state.transact(async () => {
    const layerId = state.containers.get(id)?.layerId;
    if (layerId === undefined) return;
    const count = state.mounts.count(layerId);
    // More than one: another program has mounted it as well.
    if (count <= 1) await driver.unmount(layerId);
    state.mounts.set(layerId, driver.mountPoint(layerId), Math.max(0, count - 1));
  });
}

function existing(state: StoreState, id: string): IndexedContainer {
  const record = state.containers.get(id);
  if (record === undefined) throw new CrioError('not-found', `container "${id}" is not in storage`);
  return record;
}
