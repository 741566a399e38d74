import type { Digest } from '../base/ids.ts';

export type LayerPhase = 'waiting' | 'downloading' | 'joined' | 'done' | 'exists';

export interface LayerProgress {
  readonly digest: Digest;
  /** Of the blob, bytes */
  readonly sizeBytes: number;
  readonly downloadedBytes: number;
  readonly phase: LayerPhase;
  /** What serves it now; empty before. */
  readonly endpoint: string;
}

export interface PullProgress {
  readonly reference: string;
  readonly startedMs: number;
  readonly phase: 'resolving' | 'layers' | 'committing' | 'done' | 'failed';
  readonly layers: readonly LayerProgress[];
}

/** The counters of one running pull. */
export class PullTracker {
  readonly reference: string;
  readonly startedMs = Date.now();
  #phase: PullProgress['phase'] = 'resolving';
  #layers: LayerTracker[] = [];
  #lastChangeMs = performance.now();

  constructor(reference: string) {
    this.reference = reference;
  }

  setPhase(phase: PullProgress['phase']): void {
    this.#phase = phase;
    this.touch();
  }

  setLayers(layers: readonly { readonly digest: Digest; readonly size: number }[]): readonly LayerTracker[] {
    this.#layers = layers.map((layer) => new LayerTracker(layer.digest, layer.size, () => this.touch()));
    return this.#layers;
  }

  /** Milliseconds since anything moved. */
  get idleMs(): number {
    return performance.now() - this.#lastChangeMs;
  }

  get snapshot(): PullProgress {
    return {
      reference: this.reference,
      startedMs: this.startedMs,
      phase: this.#phase,
      layers: this.#layers.map((layer) => layer.snapshot),
    };
  }

  touch(): void {
    this.#lastChangeMs = performance.now();
  }
}

export class LayerTracker {
  readonly #digest: Digest;
  readonly #sizeBytes: number;
  readonly #touch: () => void;
  #downloadedBytes = 0;
  #phase: LayerPhase = 'waiting';
  #endpoint = '';

  constructor(digest: Digest, sizeBytes: number, touch: () => void) {
    this.#digest = digest;
    this.#sizeBytes = sizeBytes;
    this.#touch = touch;
  }

  setPhase(phase: LayerPhase): void {
    this.#phase = phase;
    this.#touch();
  }

  setEndpoint(endpoint: string): void {
    this.#endpoint = endpoint;
  }

  addBytes(count: number): void {
    this.#downloadedBytes += count;
    this.#touch();
  }

  get snapshot(): LayerProgress {
    return {
      digest: this.#digest,
      sizeBytes: this.#sizeBytes,
      downloadedBytes: this.#downloadedBytes,
      phase: this.#phase,
      endpoint: this.#endpoint,
    };
  }
}
