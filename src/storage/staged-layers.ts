import type { Logger } from '../base/log.ts';
import type { StagedLayer } from './staged-layer.ts';

/** How long a layer is kept that no pull works with: the next try of a pull that failed finds it. */
const lifeMs = 10 * 60_000;

/** Unpacked layers that are in no index yet, by id, and the ids that pulls work with. */
export class StagedLayers implements AsyncDisposable {
  readonly #log: Logger;
  readonly #layers = new Map<string, StagedLayer>();
  readonly #expiry = new Map<string, NodeJS.Timeout>();
  /** Number of pulls by id, also of layers that are in the index. */
  readonly #holders = new Map<string, number>();

  constructor(log: Logger) {
    this.#log = log;
  }

  get size(): number {
    return this.#layers.size;
  }

  get(id: string): StagedLayer | undefined {
    return this.#layers.get(id);
  }

  all(): readonly StagedLayer[] {
    return [...this.#layers.values()];
  }

  add(layer: StagedLayer): void {
    this.#layers.set(layer.id, layer);
    this.#expireLater(layer.id);
  }

  /** They do not expire before they are given back. Giving back twice is harmless. */
  hold(ids: readonly string[]): Disposable {
    for (const id of ids) {
      this.#holders.set(id, (this.#holders.get(id) ?? 0) + 1);
      this.#stopExpiry(id);
    }
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) for (const id of ids) this.#giveBack(id);
        isHeld = false;
      },
    };
  }

  isHeld(id: string): boolean {
    return this.#holders.has(id);
  }

  held(): readonly string[] {
    return [...this.#holders.keys()];
  }

  async drop(layer: StagedLayer): Promise<void> {
    if (this.#layers.get(layer.id) === layer) {
      this.#stopExpiry(layer.id);
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
    for (const layer of this.all()) await this.drop(layer);
  }

  #giveBack(id: string): void {
    const left = (this.#holders.get(id) ?? 1) - 1;
    if (left > 0) {
      this.#holders.set(id, left);
      return;
    }
    this.#holders.delete(id);
    this.#expireLater(id);
  }

  #expireLater(id: string): void {
    this.#stopExpiry(id);
    const layer = this.#layers.get(id);
    if (layer === undefined || this.isHeld(id)) return;
    this.#expiry.set(id, setTimeout(() => void this.tryDrop(layer), lifeMs).unref());
  }

  #stopExpiry(id: string): void {
    clearTimeout(this.#expiry.get(id));
    this.#expiry.delete(id);
  }
}
