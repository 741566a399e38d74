import { dirname } from 'node:path';
import type { Logger } from '../base/log.ts';
import type { LockHandle, LockMode } from '../sys/lock.ts';
import { fileCallsFor } from './file-calls.ts';
import type { FileCalls } from './file-calls.ts';
import { allPrepared, commitAll } from './index/atomic-write.ts';
import { parseContainer } from './index/container-record.ts';
import type { IndexedContainer } from './index/container-record.ts';
import { parseImage } from './index/image-record.ts';
import type { IndexedImage } from './index/image-record.ts';
import { parseLayer } from './index/layer-record.ts';
import type { IndexedLayer } from './index/layer-record.ts';
import { LockFile } from './index/lock-file.ts';
import { MountCounts } from './index/mount-counts.ts';
import { RecordIndex } from './index/record-index.ts';
import type { RecordFileOptions } from './index/record-file.ts';
import { imagesIndex } from './paths.ts';
import type { StorePaths } from './paths.ts';

export type IndexKind = 'layers' | 'images' | 'containers';

/** Where records of each kind are added. */
export interface IndexFiles {
  readonly imageLayers: string;
  readonly containerLayers: string;
  readonly images: string;
  readonly containers: string;
}

/**
 * The indexes in memory and the lock files that guard them on disk.
 *
 * Readers look at the token of one index and load it again when another program wrote. Writers go through `transact`:
 * all locks are taken in the order of the format, what changed is loaded, the work of everybody who waits is done, and
 * each changed file is written once. A hundred creates at once so cost few saves.
 */
export class StoreState {
  readonly paths: StorePaths;
  /** Of the file systems of the two roots */
  readonly graphCalls: FileCalls;
  readonly runCalls: FileCalls;
  readonly log: Logger;
  readonly files: IndexFiles;
  readonly layers: RecordIndex<IndexedLayer>;
  readonly images: RecordIndex<IndexedImage>;
  readonly containers: RecordIndex<IndexedContainer>;
  readonly mounts: MountCounts;
  readonly #storageLock: LockFile;
  /** Of the graph root, then of the image store: always taken together. */
  readonly #layersLocks: readonly LockFile[];
  readonly #mountsLock: LockFile;
  /** The first one is taken first by everybody who takes both. */
  readonly #imagesLocks: readonly LockFile[];
  readonly #containersLock: LockFile;
  readonly #queue: Job[] = [];
  #isRunning = false;
  /** A transaction has all locks and has read what others wrote: nothing changes but by itself. */
  #isCurrent = false;
  /** Told each step of a change that a crash may cut short. */
  readonly step: (name: string) => void;
  readonly #refreshing = new Map<IndexKind, Promise<void>>();
  /** Called when the records of layers were read anew, as another program wrote them. */
  onLayersRead: () => void = () => {};
  /** The same for images; the locks are held until it is done. */
  onImagesRead: () => Promise<void> = async () => {};
  /** What belongs to images changed, but no record. */
  #imageFilesChanged = false;

  constructor(paths: StorePaths, log: Logger, onStep: (name: string) => void = () => undefined) {
    this.paths = paths;
    this.step = onStep;
    const graphCalls = fileCallsFor(paths.graphRoot);
    const runCalls = fileCallsFor(paths.runRoot);
    this.graphCalls = graphCalls;
    this.runCalls = runCalls;
    this.log = log;
    const imageStoreLayers = `${paths.imageRoot}/${paths.driver}-layers`;
    const hasImageStore = paths.imageRoot !== paths.graphRoot;
    this.files = {
      imageLayers: `${hasImageStore ? imageStoreLayers : paths.layers}/layers.json`,
      containerLayers: `${paths.layers}/volatile-layers.json`,
      images: imagesIndex(paths.images),
      containers: `${paths.containers}/volatile-containers.json`,
    };
    const layerFiles: RecordFileOptions[] = [{ path: `${paths.layers}/layers.json`, durable: true }];
    if (hasImageStore) layerFiles.push({ path: this.files.imageLayers, durable: true });
    layerFiles.push({ path: this.files.containerLayers, durable: false, calls: graphCalls });
    this.layers = new RecordIndex({ files: layerFiles, parse: parseLayer, log });
    // The last one keeps a name that two have.
    const imageFiles = paths.imageFolders.map((folder) => ({ path: imagesIndex(folder), durable: true }));
    this.images = new RecordIndex({ files: imageFiles.toReversed(), parse: parseImage, log, sharesNames: true });
    const containerFiles = [
      { path: `${paths.containers}/containers.json`, durable: true },
      { path: this.files.containers, durable: false, calls: graphCalls },
    ];
    this.containers = new RecordIndex({ files: containerFiles, parse: parseContainer, log });
    this.mounts = new MountCounts(`${paths.runLayers}/mountpoints.json`, log, runCalls);
    this.#storageLock = new LockFile(`${paths.graphRoot}/storage.lock`);
    this.#layersLocks = [new LockFile(`${paths.layers}/layers.lock`, graphCalls)];
    if (hasImageStore) this.#layersLocks = [...this.#layersLocks, new LockFile(`${imageStoreLayers}/layers.lock`)];
    this.#mountsLock = new LockFile(`${paths.runLayers}/mountpoints.lock`, runCalls);
    this.#imagesLocks = paths.imageFolders.map((folder) => new LockFile(`${folder}/images.lock`));
    this.#containersLock = new LockFile(`${paths.containers}/containers.lock`, graphCalls);
  }

  /**
   * Makes memory as new as the disk. Costs one 64-byte read when nobody else wrote. In a transaction there is nothing to do,
   * whatever somebody writes without the locks: waiting for them there would have no end.
   */
  async refresh(kind: IndexKind): Promise<void> {
    if (this.#isCurrent || !this.#isStale(kind)) return;
    let running = this.#refreshing.get(kind);
    if (running === undefined) {
      running = this.#refreshNow(kind).finally(() => this.#refreshing.delete(kind));
      this.#refreshing.set(kind, running);
    }
    await running;
  }

  /**
   * Runs `work` with all locks held for writing and memory up to date; what it changed in the indexes is on disk when
   * the promise resolves. Jobs that are not `alone` run side by side, so each must await nothing between its look at memory
   * and its change of it, and take the change back when it fails.
   */
  transact<T>(work: (transaction: Transaction) => Promise<T>, options: { readonly alone?: boolean } = {}): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#queue.push(createJob(work, options.alone === true, resolve, reject));
      if (!this.#isRunning) void this.#runQueue();
    });
  }

  /** Folder with the data of an image: where its record is, or where it is going to be. */
  imageFolder(id: string): string {
    return dirname(this.images.fileOf(id) ?? this.files.images);
  }

  hasImageIn(folder: string, id: string): boolean {
    return this.images.filesOf(id).includes(imagesIndex(folder));
  }

  /** Changes whenever another program shuts its driver down, and with it what is mounted on its bind of the home. */
  driverShutdowns(): string {
    return this.#storageLock.readToken().toString('latin1');
  }

  /** The same, and not in the middle of one: with the lock held the mounts are taken away first, then the token is written. */
  async settledShutdowns(): Promise<string> {
    using _held = this.#isCurrent ? undefined : await this.#storageLock.acquire('read');
    return this.driverShutdowns();
  }

  /** In a transaction: others are to read the images again, as files beside their records changed. */
  announceImages(): void {
    this.#imageFilesChanged = true;
  }

  close(): void {
    for (const lock of this.#allLocks()) lock.close();
  }

  #allLocks(): LockFile[] {
    return [this.#storageLock, ...this.#layersLocks, this.#mountsLock, ...this.#imagesLocks, this.#containersLock];
  }

  async #runQueue(): Promise<void> {
    this.#isRunning = true;
    try {
      for (let batch = this.#takeBatch(); batch.length > 0; batch = this.#takeBatch()) await this.#runBatch(batch);
    } finally {
      this.#isRunning = false;
    }
  }

  #takeBatch(): Job[] {
    if (this.#queue[0]?.alone === true) return this.#queue.splice(0, 1);
    const end = this.#queue.findIndex((job) => job.alone);
    return this.#queue.splice(0, end < 0 ? this.#queue.length : end);
  }

  /** Never throws: every job of the batch gets its result or its error. */
  async #runBatch(batch: readonly Job[]): Promise<void> {
    try {
      using held = new DisposableStack();
      const handles = new Map<LockFile, LockHandle>();
      for (const lock of this.#allLocks()) handles.set(lock, held.use(await lock.acquire('write')));
      await this.#loadChanged();
      held.defer(() => (this.#isCurrent = false));
      this.#isCurrent = true;
      const transaction: Transaction = { save: () => this.#saveOrForget(handles) };
      await Promise.all(batch.map((job) => job.run(transaction)));
      await transaction.save();
    } catch (error) {
      for (const lock of this.#allLocks()) lock.forget();
      for (const job of batch) job.fail(error);
      return;
    }
    for (const job of batch) job.settle();
  }

  async #loadChanged(): Promise<void> {
    const mountsToken = this.#mountsLock.isChanged() ? this.#mountsLock.readToken() : undefined;
    if (mountsToken !== undefined) {
      await this.mounts.load();
      this.#mountsLock.remember(mountsToken);
    }
    for (const kind of ['layers', 'images', 'containers'] as const) if (this.#isStale(kind)) await this.#load(kind);
  }

  /** When it fails, what is in memory may not be what is on disk: it is read again before it is used. */
  async #saveOrForget(handles: ReadonlyMap<LockFile, LockHandle>): Promise<void> {
    try {
      await this.#save(handles);
    } catch (error) {
      for (const lock of this.#allLocks()) lock.forget();
      throw error;
    }
  }

  /**
   * Tokens and temporary files are written side by side, then the files are put in place in the order of the format.
   * Other programs see none of it before the locks are released.
   */
  async #save(handles: ReadonlyMap<LockFile, LockHandle>): Promise<void> {
    const indexes = [
      { index: this.layers, locks: this.#layersLocks },
      { index: this.mounts, locks: [this.#mountsLock] },
      { index: this.images, locks: this.#imagesLocks },
      { index: this.containers, locks: [this.#containersLock] },
    ].filter(({ index }) => index.isDirty || (index === this.images && this.#imageFilesChanged));
    if (indexes.length === 0) return;
    this.#imageFilesChanged = false;
    const touched = indexes.flatMap(({ locks }) => locks).map((lock) => touch(lock, handles));
    const prepared = await allPrepared([...indexes.map(({ index }) => index.prepareSave()), ...touched]);
    await commitAll(prepared);
  }

  #isStale(kind: IndexKind): boolean {
    if (this.#locksOf(kind).some((lock) => lock.isChanged())) return true;
    return kind === 'layers' && this.layers.filesChanged();
  }

  async #refreshNow(kind: IndexKind): Promise<void> {
    const mode: LockMode = 'read';
    using held = new DisposableStack();
    for (const lock of this.#locksOf(kind)) held.use(await lock.acquire(mode));
    if (this.#isStale(kind)) await this.#load(kind);
  }

  /** The locks of this kind are held. */
  async #load(kind: IndexKind): Promise<void> {
    const tokens = this.#locksOf(kind).map((lock) => [lock, lock.readToken()] as const);
    await this[kind].load();
    if (kind === 'layers') this.onLayersRead();
    if (kind === 'images') await this.onImagesRead();
    for (const [lock, token] of tokens) lock.remember(token);
  }

  #locksOf(kind: IndexKind): readonly LockFile[] {
    if (kind === 'layers') return this.#layersLocks;
    return kind === 'images' ? this.#imagesLocks : [this.#containersLock];
  }
}

async function touch(lock: LockFile, handles: ReadonlyMap<LockFile, LockHandle>): Promise<[]> {
  const handle = handles.get(lock);
  if (handle !== undefined) await lock.touch(handle);
  return [];
}

export interface Transaction {
  /** Writes what changed so far, for work that must not go on before. */
  save(): Promise<void>;
}

interface Job {
  readonly alone: boolean;
  run(transaction: Transaction): Promise<void>;
  /** Delivers the result, or the job's own error. */
  settle(): void;
  fail(error: unknown): void;
}

function createJob<T>(
  work: (transaction: Transaction) => Promise<T>,
  alone: boolean,
  resolve: (value: T) => void,
  reject: (error: unknown) => void,
): Job {
  let deliver = () => reject(new Error('transaction did not run'));
  return {
    alone,
    async run(transaction) {
      try {
        const value = await work(transaction);
        deliver = () => resolve(value);
      } catch (error) {
        deliver = () => reject(error);
      }
    },
    settle: () => deliver(),
    fail: reject,
  };
}
