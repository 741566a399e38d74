import { mkdir } from 'node:fs/promises';
import { CrioError, wrap } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { CrashNote } from '../sys/crash-note.ts';
import { AdditionalStore } from './additional-store.ts';
import { cleanUp } from './clean-up.ts';
import { createContainerStore } from './container-store.ts';
import { createHealth } from './damage/health.ts';
import { Quarantine } from './damage/quarantine.ts';
import type { Driver } from './driver.ts';
import { driverNameOf, parseDriverOptions } from './driver-options.ts';
import type { DriverOptions } from './driver-options.ts';
import { createImageStore } from './image-store.ts';
import { Layers } from './layer-store.ts';
import type { UnpackBlob } from './layer-store.ts';
import { LayerUsage } from './layer-usage.ts';
import { OverlayDriver } from './overlay/overlay-driver.ts';
import { storePaths, tarSplitPath } from './paths.ts';
import type { StorePaths } from './paths.ts';
import { checkDigest } from './staged-layer.ts';
import type { Store } from './store.ts';
import { StoreState } from './store-state.ts';
import { countEntries } from './tar/count-entries.ts';
import { UnpackPool } from './tar/unpack-pool.ts';
import { Trash } from './trash.ts';
import { VfsDriver } from './vfs/vfs-driver.ts';

export interface StoreOptions {
  readonly graphRoot: string;
  readonly runRoot: string;
  /** Second root for image layers and records; empty for none. */
  readonly imageStore: string;
  /** `overlay` (or its old name `overlay2`) or `vfs`; empty is overlay. */
  readonly driver: string;
  /** `overlay.<key>=<value>` as in storage.conf and CRI-O's storage_option. */
  readonly options: readonly string[];
  readonly log: Logger;
  /** Told each step of a change that a crash may cut short, where crash tests end the process. */
  readonly onStep?: (name: string) => void;
}

/** Opens or creates a store, and cleans up what interrupted operations left in it. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const driverName = driverNameOf(options.driver);
  const driverOptions = parseDriverOptions(options.options, options.log);
  const paths = storePaths({ ...options, driver: driverName });
  try {
    await using undo = new AsyncDisposableStack();
    await makeFolders(paths);
    const state = undo.adopt(new StoreState(paths, options.log, options.onStep), (opened) => opened.close());
    const driver = undo.adopt(createDriver(paths, driverOptions, options.log), (opened) => opened[Symbol.dispose]?.());
    state.onLayersRead = () => driver.forget();
    await driver.prepare();
    const trash = undo.use(new Trash(driver.stagingParent, options.log, state.graphCalls));
    const containerTrash =
      paths.imageRoot === paths.graphRoot
        ? trash
        : undo.use(new Trash(`${driver.home}/tempdirs`, options.log, state.graphCalls));
    const runTrash = undo.use(new Trash(`${paths.runContainers}/tmp`, options.log, state.runCalls));
    const loose = undo.use(new CrashNote(`${paths.layers}/crio-loose-layers`, options.log));
    await cleanUp({ state, driver, trash, loose });
    const additional = driverOptions.additionalRoots.map((root) =>
      undo.adopt(new AdditionalStore(root, driverName, options.log), (opened) => opened.close()),
    );
    const usage = new LayerUsage({
      state,
      countInodes: (id) => countEntries(tarSplitPath(paths.layers, id)),
      listGraphRoot: () => driver.listHome(),
    });
    await usage.load();
    undo.defer(() => usage.idle());
    const pool = undo.use(new UnpackPool(options.log));
    const quarantine = new Quarantine(state);
    await quarantine.load();
    state.onImagesRead = () => quarantine.load();
    const unpackBlob = createUnpackBlob(pool, driverName);
    const layers = undo.use(new Layers({ state, driver, unpackBlob, usage, trash, quarantine, loose, additional }));
    const parts = { state, driver, trash, containerTrash, runTrash, sources: layers, quarantine, loose, additional };
    const images = createImageStore(parts);
    const containers = createContainerStore(parts);
    const health = createHealth({ ...parts, images, containers });
    const owned = undo.move();
    return {
      graphRoot: paths.graphRoot,
      runRoot: paths.runRoot,
      imageStore: options.imageStore,
      driverName,
      images,
      layers,
      containers,
      health,
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    throw wrap(`open storage at "${paths.graphRoot}"`, error);
  }
}

/** Unpacks in a worker, and believes nothing that does not have the digests it should. */
function createUnpackBlob(pool: UnpackPool, driverName: 'overlay' | 'vfs'): UnpackBlob {
  const whiteouts = driverName === 'overlay' ? 'overlay' : 'delete';
  return async ({ diffFolder, tarSplit, blob, signal, onUnpacked, diffId, blobDigest, blobSize }) => {
    const limited = blobSize === undefined ? blob : atMost(blob, blobSize);
    const content = await pool.unpack({ diffFolder, tarSplit, whiteouts, blob: limited, onUnpacked, signal });
    checkDigest('blob digest', blobDigest, content.compressedDigest);
    if (blobSize !== undefined && blobSize !== content.compressedSize) {
      throw new CrioError('invalid', `blob has ${content.compressedSize} bytes, expected ${blobSize}`);
    }
    checkDigest('diffID', diffId, content.diffDigest);
    return content;
  };
}

/** Stops a blob that sends more than it should, instead of filling the disk with it. */
async function* atMost(blob: AsyncIterable<Uint8Array>, bytes: number): AsyncGenerator<Uint8Array> {
  let left = bytes;
  for await (const piece of blob) {
    left -= piece.length;
    if (left < 0) throw new CrioError('invalid', `blob is larger than the ${bytes} bytes expected`);
    yield piece;
  }
}

function createDriver(paths: StorePaths, options: DriverOptions, log: Logger): Driver {
  if (paths.driver === 'vfs') return new VfsDriver(paths.graphRoot);
  return new OverlayDriver({ ...options, graphRoot: paths.graphRoot, imageRoot: paths.imageRoot, log });
}

async function makeFolders(paths: StorePaths): Promise<void> {
  const { graphRoot, runRoot, imageRoot, driver } = paths;
  for (const root of new Set([graphRoot, runRoot, imageRoot])) await mkdir(root, { recursive: true, mode: 0o700 });
  const folders = [paths.layers, paths.containers, ...paths.imageFolders, paths.runLayers, paths.runContainers];
  if (imageRoot !== graphRoot) folders.push(`${imageRoot}/${driver}-layers`);
  for (const folder of folders) await mkdir(folder, { recursive: true, mode: 0o700 });
}
