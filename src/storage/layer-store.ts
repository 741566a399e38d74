import { setTimeout as sleep } from 'node:timers/promises';
import { CrioError, wrap } from '../base/errors.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW, umountAsync } from '../sys/mount.ts';
import type { CrashNote } from '../sys/crash-note.ts';
import type { AdditionalStore } from './additional-store.ts';
import { describeDamage } from './damage/quarantine.ts';
import type { Quarantine } from './damage/quarantine.ts';
import { replaceLayers } from './damage/replace-layers.ts';
import { deleteLayers, unusedLayers } from './delete-layers.ts';
import type { Driver } from './driver.ts';
import { layerIdFor } from './layer-id.ts';
import { addStagedLayers, stageLayer } from './staged-layer.ts';
import type { StagedLayer, UnpackedContent } from './staged-layer.ts';
import type { LayerRecord, LayerStore, StoreUsage, UnpackOptions } from './store.ts';
import type { StoreState, Transaction } from './store-state.ts';
import type { Trash } from './trash.ts';
import type { LayerUsage } from './layer-usage.ts';
import { StagedLayers } from './staged-layers.ts';
import { WriteBack } from './write-back.ts';

/** How images and containers see layers. */
export interface LayerSource {
  /** In the index, whole, or in an additional store; one that is only unpacked has no folder under its id yet. */
  findStored(id: string): Promise<LayerRecord | undefined>;
  /** Top layer of an image; not-found when there is no such image. */
  topLayer(imageId: string): Promise<string | undefined>;
  /** Sum of `diffSize` from this layer down, bytes. */
  chainSize(topLayer: string | undefined): Promise<number>;
  /** Adds layers that are unpacked but in no index yet: those from `topLayer` down. */
  commit(topLayer: string | undefined): Promise<void>;
}

/** Unpacks one blob into folders that exist; throws when content or digests are not as they should. */
export type UnpackBlob = (
  options: UnpackOptions & { readonly diffFolder: string; readonly tarSplit: string },
) => Promise<UnpackedContent>;

export interface LayerStoreOptions {
  readonly state: StoreState;
  readonly driver: Driver;
  readonly unpackBlob: UnpackBlob;
  readonly usage: LayerUsage;
  readonly trash: Trash;
  readonly quarantine: Quarantine;
  /** Layers in the index that no image has, for a while. */
  readonly loose: CrashNote;
  readonly additional: readonly AdditionalStore[];
}

const retryDelaysMs = [1500, 5000, 30_000, 120_000];

/** How often to look for a parent that nobody has begun to unpack yet. */
const parentPollMs = 50;

export class Layers implements LayerStore, LayerSource, AsyncDisposable {
  readonly #options: LayerStoreOptions;
  readonly #unpacking = new Map<string, Promise<StagedLayer>>();
  readonly #staged: StagedLayers;
  readonly #writeBack: WriteBack;
  #removal: NodeJS.Timeout | undefined;
  readonly idFor = layerIdFor;

  constructor(options: LayerStoreOptions) {
    this.#options = options;
    this.#staged = new StagedLayers(options.state.log);
    // In this order: podman mounts the driver's home onto itself, and must not find that mount in use.
    this.#writeBack = new WriteBack([options.state.paths.layers, options.driver.stagingParent]);
  }

  async find(id: string): Promise<LayerRecord | undefined> {
    return (await this.#findOwn(id)) ?? this.#staged.get(id)?.record ?? this.#findElsewhere(id);
  }

  async findStored(id: string): Promise<LayerRecord | undefined> {
    return (await this.#findOwn(id)) ?? this.#findElsewhere(id);
  }

  async #findOwn(id: string): Promise<LayerRecord | undefined> {
    const { state, quarantine } = this.#options;
    await state.refresh('layers');
    const layer = state.layers.get(id);
    return layer === undefined || layer.isIncomplete || quarantine.hasLayer(id) ? undefined : layer;
  }

  async #findElsewhere(id: string): Promise<LayerRecord | undefined> {
    return this.#options.quarantine.hasLayer(id) ? undefined : this.#findAdditional(id);
  }

  async topLayer(imageId: string): Promise<string | undefined> {
    const { state, quarantine } = this.#options;
    await state.refresh('images');
    const damage = quarantine.damageOf(imageId);
    if (damage !== undefined) {
      throw new CrioError(
        'failed-precondition',
        `image "${imageId}" is damaged: ${describeDamage(damage)}; pull it again`,
      );
    }
    const own = state.images.get(imageId);
    if (own !== undefined) return own.topLayer;
    for (const store of this.#options.additional) {
      const image = (await store.images()).get(imageId);
      if (image !== undefined) return image.topLayer;
    }
    throw new CrioError('not-found', `image "${imageId}" is not in storage`);
  }

  async chainSize(topLayer: string | undefined): Promise<number> {
    const { state } = this.#options;
    await state.refresh('layers');
    let size = 0;
    for (let id = topLayer; id !== undefined;) {
      const layer: LayerRecord | undefined = state.layers.get(id) ?? (await this.#findAdditional(id));
      size += Math.max(0, layer?.diffSize ?? 0);
      id = layer?.parent;
    }
    return size;
  }

  async #findAdditional(id: string): Promise<LayerRecord | undefined> {
    for (const store of this.#options.additional) {
      const layer = (await store.layers()).get(id);
      if (layer !== undefined) return layer;
    }
    return undefined;
  }

  async unpack(options: UnpackOptions): Promise<LayerRecord> {
    const id = layerIdFor(options.parent, options.diffId);
    for (;;) {
      const known = await this.find(id);
      if (known !== undefined) return known;
      const running = this.#unpacking.get(id);
      if (running === undefined) return (await this.#start(id, options)).record;
      // Somebody else's blob may be broken or its pull canceled: then ours is used.
      await settled(running, options.signal);
    }
  }

  async sync(topLayer: string | undefined): Promise<void> {
    await this.commit(topLayer);
  }

  hold(layerIds: readonly string[]): Disposable {
    return this.#staged.holders.hold(layerIds);
  }

  async commit(topLayer: string | undefined): Promise<void> {
    if (this.#staged.size === 0) return;
    const { state } = this.#options;
    await state.refresh('layers');
    const chain: StagedLayer[] = [];
    for (let id = topLayer; id !== undefined;) {
      const staged = this.#staged.get(id);
      if (staged !== undefined) chain.push(staged);
      // Below a layer of the index there may be a damaged one, unpacked anew.
      id = staged === undefined ? state.layers.get(id)?.parent : staged.parent;
    }
    await this.#commit(chain);
  }

  /** Data first, then the index that names it. One sync for all layers of an image. */
  async #commit(layers: readonly StagedLayer[]): Promise<void> {
    if (layers.length === 0) return;
    const { state, usage, loose } = this.#options;
    const ids = layers.map(({ id }) => id);
    using _held = this.#staged.holders.hold(ids);
    try {
      await this.#add(layers);
    } catch (error) {
      // What was moved already cannot be added again: the next pull unpacks anew.
      for (const layer of layers) await this.#staged.tryDrop(layer);
      this.#removeIncomplete(0);
      loose.forget(ids);
      throw error;
    }
    for (const layer of layers) {
      // Or its parent is still being unpacked.
      if (state.layers.get(layer.id) === undefined) continue;
      usage.set(layer.id, layer.content.inodes);
      await this.#staged.drop(layer);
    }
  }

  async #add(layers: readonly StagedLayer[]): Promise<void> {
    const { state, driver, trash, quarantine, loose } = this.#options;
    const elsewhere = new Set<string>();
    for (const { parent } of layers) {
      if (parent !== undefined && (await this.#findAdditional(parent)) !== undefined) elsewhere.add(parent);
    }
    const isElsewhere = (id: string) => elsewhere.has(id);
    const ids = layers.map(({ id }) => id);
    const noted = new Set(loose.list());
    await Promise.all([this.#writeBack.sync(layers.map(({ mark }) => mark)), loose.note(ids)]);
    const isDamaged = ({ id }: StagedLayer) => state.layers.get(id) !== undefined && quarantine.hasLayer(id);
    const add = (transaction: Transaction) =>
      trash.use(async (folder) => {
        await replaceLayers({ state, driver }, layers.filter(isDamaged));
        const added = await addStagedLayers({ state, driver, transaction, isElsewhere, trash: folder }, layers);
        // Another program has brought the others meanwhile.
        loose.forget(ids.filter((id) => !noted.has(id) && !added.includes(id)));
        // Before the next commit, which may have the same layers: it would put the damaged content back.
        for (const id of ids) if (state.layers.get(id) !== undefined) await quarantine.layerReplaced(id);
      });
    await state.transact(add, { alone: true });
  }

  async discard(layerIds: readonly string[]): Promise<void> {
    for (const id of layerIds) {
      const layer = this.#staged.get(id);
      if (layer !== undefined && !this.#staged.holders.has(id)) await this.#staged.tryDrop(layer);
    }
    const { state, driver, trash, loose } = this.#options;
    const top = layerIds.findLast((id) => state.layers.get(id) !== undefined);
    if (top === undefined) return;
    const remove = async (transaction: Transaction) => {
      const noted = new Set(loose.list());
      // Another program brought it, and may be about to store the image it is for.
      const isNotOurs = (id: string) => !noted.has(id);
      const kept = [...this.#staged.holders.all(), ...layerIds.filter(isNotOurs)];
      const unused = unusedLayers(state, { topLayer: top, mappedLayers: [] }, kept);
      await trash.use((folder) => deleteLayers({ state, driver, trash: folder, transaction }, unused));
      loose.forget(layerIds.filter((id) => !this.#staged.holders.has(id)));
    };
    try {
      await state.transact(remove, { alone: true });
    } catch (error) {
      state.log.warn('delete layers of a pull that failed', error);
    }
  }

  async usage(): Promise<StoreUsage> {
    await this.#options.state.refresh('layers');
    return this.#options.usage.total();
  }

  async mountReadOnly(layerId: string, target: string): Promise<() => Promise<void>> {
    await this.commit(layerId);
    if ((await this.find(layerId)) === undefined)
      throw new CrioError('not-found', `layer "${layerId}" is not in storage`);
    await this.#options.driver.mountReadOnly(layerId, target);
    return () => umountAsync(target, MNT_DETACH | UMOUNT_NOFOLLOW);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#removal);
    await this.#staged[Symbol.asyncDispose]();
    await this.#writeBack[Symbol.asyncDispose]();
  }

  async #start(id: string, options: UnpackOptions): Promise<StagedLayer> {
    const work = this.#stage(id, options);
    this.#unpacking.set(id, work);
    try {
      return await work;
    } finally {
      this.#unpacking.delete(id);
    }
  }

  async #stage(id: string, options: UnpackOptions): Promise<StagedLayer> {
    const { driver, state, unpackBlob } = this.#options;
    const { parent } = options;
    try {
      const mark = this.#writeBack.mark();
      const onUnpacked = (bytes: number) => {
        this.#writeBack.wrote(bytes);
        options.onUnpacked?.(bytes);
      };
      const unpack = (target: { diffFolder: string; tarSplit: string }) =>
        unpackBlob({ ...options, ...target, onUnpacked });
      const parentContent = driver.unpacksOntoParent ? await this.#parentContent(parent, options.signal) : undefined;
      const layersFolder = state.paths.layers;
      const staged = await stageLayer({ id, parent, driver, layersFolder, parentContent, mark, unpack });
      if (options.signal.aborted) {
        // Nobody waits for it any more, so nobody would add or discard it.
        await staged[Symbol.asyncDispose]();
        throw options.signal.reason;
      }
      this.#staged.add(staged);
      return staged;
    } catch (error) {
      throw wrap(`unpack layer "${options.diffId}" below "${driver.home}"`, error);
    }
  }

  /** Waits until the parent, which the same pull unpacks, is there. */
  async #parentContent(parent: string | undefined, signal: AbortSignal): Promise<string | undefined> {
    if (parent === undefined) return undefined;
    for (;;) {
      const staged = this.#staged.get(parent);
      if (staged !== undefined) return staged.diffFolder;
      if ((await this.find(parent)) !== undefined) return this.#options.driver.contentFolder(parent);
      const running = this.#unpacking.get(parent);
      if (running !== undefined) await settled(running, signal);
      else await sleep(parentPollMs, undefined, { signal });
    }
  }

  /** What could not be taken back on a disk that was full, when there is room again. The next commit or start does it, too. */
  #removeIncomplete(attempt: number): void {
    const delayMs = retryDelaysMs[attempt];
    if (delayMs === undefined) return;
    const { state, driver, trash } = this.#options;
    const remove = (transaction: Transaction) => {
      const incomplete = state.layers.list().filter((layer) => layer.isIncomplete);
      const ids = incomplete.map(({ id }) => id);
      return trash.use((folder) => deleteLayers({ state, driver, trash: folder, transaction }, ids));
    };
    const run = () => state.transact(remove, { alone: true }).catch(() => this.#removeIncomplete(attempt + 1));
    clearTimeout(this.#removal);
    this.#removal = setTimeout(() => void run(), delayMs).unref();
  }
}

/** Resolves when `work` ended in whatever way, or rejects when the caller is gone. */
function settled(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    const done = () => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    };
    work.then(done, done);
  });
}
