import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { walkUsage, type Usage } from './walk-usage.ts';

export interface LayerSample extends Usage {
  /** End of the walk, ns since the epoch. */
  readonly timestampNs: bigint;
}

interface Layer {
  sample: LayerSample | undefined;
  /** Monotonic ms before which it is not walked again. */
  notBeforeMs: number;
  walk: Promise<void> | undefined;
}

/** A layer is walked at most this often, */
const minIntervalMs = 10_000;
/** and not for more than this part of the time. */
const dutyFactor = 20;
/** Work and rest within a walk: a big layer takes a quarter of the time of one system call after the other. */
const sliceMs = 10;
const restMs = 30;

/**
 * What writable layers hold, by walking them in the background: one layer at a time, each seldom, never because of a
 * call alone. A call gets the last sample with its true time.
 */
export class LayerUsage {
  readonly #layers = new WeakMap<object, Layer>();
  readonly #clock: Clock;
  readonly #log: Logger;
  #queue: Promise<void> = Promise.resolve();

  constructor(options: { clock: Clock; log: Logger }) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** The last sample; asks for a new one when it is old. `owner` is the container: what is known goes with it. */
  get(owner: object, directory: string): LayerSample | undefined {
    const layer = this.#layers.get(owner) ?? { sample: undefined, notBeforeMs: 0, walk: undefined };
    this.#layers.set(owner, layer);
    if (layer.walk === undefined && this.#clock.monotonicMs() >= layer.notBeforeMs) this.#enqueue(layer, directory);
    return layer.sample;
  }

  /** Resolves when what was asked for until now is done. */
  settled(): Promise<void> {
    return this.#queue;
  }

  #enqueue(layer: Layer, directory: string): void {
    const walk = this.#queue.then(() => this.#walk(layer, directory));
    layer.walk = walk;
    this.#queue = walk;
  }

  async #walk(layer: Layer, directory: string): Promise<void> {
    const beganMs = this.#clock.monotonicMs();
    try {
      const usage = await walkUsage(directory, pacer(this.#clock));
      layer.sample = { ...usage, timestampNs: this.#clock.nowNs() };
    } catch (error) {
      this.#log.debug(() => `walk writable layer "${directory}": ${String(error)}`);
    }
    const nowMs = this.#clock.monotonicMs();
    layer.notBeforeMs = nowMs + Math.max(minIntervalMs, (nowMs - beganMs) * dutyFactor);
    layer.walk = undefined;
  }
}

function pacer(clock: Clock): () => Promise<void> {
  let sliceEndMs = clock.monotonicMs() + sliceMs;
  return async () => {
    if (clock.monotonicMs() < sliceEndMs) return;
    await clock.sleep(restMs);
    sliceEndMs = clock.monotonicMs() + sliceMs;
  };
}
