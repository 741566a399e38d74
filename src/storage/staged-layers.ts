import { Holders } from '../base/holders.ts';
import type { Logger } from '../base/log.ts';
import type { StagedLayer } from './staged-layer.ts';

/** How long a layer is kept that no pull works with: the next try of a pull that failed finds it. */
const lifeMs = 10 * 60_000;

/** Unpacked layers that are in no index yet, by id. */
export class StagedLayers implements AsyncDisposable {
  /** Pulls that work with layers, also with those in the index. What they hold does not expire. */
  readonly holders = new Holders((id) => this.#expireLater(id));
  readonly #log: Logger;
  readonly #layers = new Map<string, StagedLayer>();
  readonly #expiry = new Map<string, NodeJS.Timeout>();

  constructor(log: Logger) {
    this.#log = log;
  }

  get size(): number {
    return this.#layers.size;
  }

  get(id: string): StagedLayer | undefined {
    return this.#layers.get(id);
  }

  add(layer: StagedLayer): void {
    this.#layers.set(layer.id, layer);
    this.#expireLater(layer.id);
  }

  async drop(layer: StagedLayer): Promise<void> {
    if (this.#layers.get(layer.id) === layer) {
      clearTimeout(this.#expiry.get(layer.id));
      this.#expiry.delete(layer.id);
      this.#layers.delete(layer.id);
    }
    await layer[Symbol.asyncDispose]();
  }

  /** Logs an error. */
  async tryDrop(layer: StagedLayer): Promise<void> {
    try {
      await this.drop(layer);
    } catch (error) {
      this.#log.warn(`delete unused layer "${layer.id}"`, error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const layer of [...this.#layers.values()]) await this.drop(layer);
  }

  #expireLater(id: string): void {
    clearTimeout(this.#expiry.get(id));
    const layer = this.#layers.get(id);
    if (layer === undefined) return;
    const expire = () => (this.holders.has(id) ? undefined : void this.tryDrop(layer));
    this.#expiry.set(id, setTimeout(expire, lifeMs).unref());
  }
}
