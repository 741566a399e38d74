import { readFile } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';
import { atomicWrite } from './index/atomic-write.ts';
import { isObject, isSize } from './index/json-fields.ts';
import type { IndexedLayer } from './index/layer-record.ts';
import type { LayerSize, StoreUsage } from './store.ts';
import type { StoreState } from './store-state.ts';

const version = 1;

/**
 * Inode counts of image layers, which the records of the format do not hold: a small file of our own beside the index.
 * Losing it costs nothing but a count.
 */
export class LayerUsage {
  readonly #path: string;
  readonly #state: StoreState;
  readonly #countInodes: (layerId: string) => Promise<number>;
  readonly #listGraphRoot: () => Promise<readonly string[]>;
  readonly #inodes = new Map<string, number>();
  #saving: Promise<void> | undefined;
  #counting: Promise<void> | undefined;

  constructor(options: {
    state: StoreState;
    countInodes: (layerId: string) => Promise<number>;
    /** Ids of the layers whose folders are in the graph root; asked when there is an image store, too. */
    listGraphRoot: () => Promise<readonly string[]>;
  }) {
    this.#state = options.state;
    this.#listGraphRoot = options.listGraphRoot;
    this.#countInodes = options.countInodes;
    this.#path = `${options.state.paths.layers}/crio-layer-inodes.json`;
  }

  async load(): Promise<void> {
    let value: unknown;
    try {
      value = JSON.parse(await readFile(this.#path, 'utf8'));
    } catch (error) {
      if (hasCode(error, 'ENOENT') || error instanceof SyntaxError) return;
      throw error;
    }
    if (!isObject(value) || value['version'] !== version || !isObject(value['layers'])) return;
    for (const [id, inodes] of Object.entries(value['layers'])) if (isSize(inodes)) this.#inodes.set(id, inodes);
  }

  set(layerId: string, inodes: number): void {
    this.#inodes.set(layerId, inodes);
    this.#save();
  }

  /** From records and counts; layers that other programs added are counted in the background, from their tar-split. */
  async total(): Promise<StoreUsage> {
    const { imageRoot, graphRoot } = this.#state.paths;
    // Where the folder is, not the record: older tools keep all records in the graph root.
    const old = new Set(imageRoot === graphRoot ? [] : await this.#listGraphRoot());
    const layers = this.#imageLayers();
    const unknown = layers.map(({ id }) => id).filter((id) => !this.#inodes.has(id));
    if (unknown.length > 0) this.#counting ??= this.#count(unknown).finally(() => (this.#counting = undefined));
    return {
      imageRoot: this.#sum(layers.filter(({ id }) => !old.has(id))),
      graphRoot: this.#sum(layers.filter(({ id }) => old.has(id))),
    };
  }

  #sum(layers: readonly IndexedLayer[]): LayerSize {
    return {
      bytes: layers.reduce((sum, { diffSize }) => sum + Math.max(0, diffSize ?? 0), 0),
      inodes: layers.reduce((sum, { id }) => sum + (this.#inodes.get(id) ?? 0), 0),
    };
  }

  /** Waits for what goes on in the background. */
  async idle(): Promise<void> {
    await this.#counting;
    await this.#saving;
  }

  #imageLayers() {
    const { layers, files } = this.#state;
    return layers
      .list()
      .filter((layer) => layers.fileOf(layer.id) !== files.containerLayers && layer.diffDigest !== undefined);
  }

  async #count(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      try {
        this.#inodes.set(id, await this.#countInodes(id));
      } catch (error) {
        this.#state.log.warn(`count inodes of layer "${id}"`, error);
        this.#inodes.set(id, 0);
      }
    }
    this.#save();
  }

  #save(): void {
    this.#saving ??= new Promise<void>((resolve) => setImmediate(resolve))
      .then(() => this.#write())
      .catch((error: unknown) => this.#state.log.warn(`write "${this.#path}"`, error))
      .finally(() => (this.#saving = undefined));
  }

  async #write(): Promise<void> {
    const known = this.#imageLayers().map((layer) => [layer.id, this.#inodes.get(layer.id)] as const);
    const layers = Object.fromEntries(known.filter(([, inodes]) => inodes !== undefined));
    await atomicWrite(this.#path, Buffer.from(JSON.stringify({ version, layers })), { durable: false });
  }
}
