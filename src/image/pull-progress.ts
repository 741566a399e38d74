import type { Digest } from '../base/ids.ts';

export type LayerPhase = 'waiting' | 'downloading' | 'joined' | 'done' | 'exists';

export interface LayerProgress {
  readonly digest: Digest;
  /** Of the blob, bytes */
  readonly sizeBytes: number;
  readonly downloadedBytes: number;
  /** Bytes of the blob that are unpacked on disk. */
  readonly unpackedBytes: number;
  readonly phase: LayerPhase;
  /** What serves it now; empty before. */
  readonly endpoint: string;
  /** Over the last second or so; 0 when nothing moves. */
  readonly bytesPerSecond: number;
}

export interface PullProgress {
  /** As the caller wrote it. */
  readonly reference: string;
  /** Kubernetes namespace it is pulled for; `` for none. */
  readonly namespace: string;
  /** ms since the epoch */
  readonly startedMs: number;
  readonly phase: 'resolving' | 'layers' | 'committing' | 'done' | 'failed';
  readonly layers: readonly LayerProgress[];
}

/** The counters of one running pull. */
export class PullTracker {
  readonly reference: string;
  readonly namespace: string;
  readonly startedMs = Date.now();
  #phase: PullProgress['phase'] = 'resolving';
  #layers: LayerTracker[] = [];
  #lastChangeMs = performance.now();

  constructor(reference: string, namespace = '') {
    this.reference = reference;
    this.namespace = namespace;
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
      namespace: this.namespace,
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
  #unpackedBytes = 0;
  #phase: LayerPhase = 'waiting';
  #endpoint = '';
  readonly #speed = new SpeedMeter();

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
    this.#speed.add(count, performance.now());
    this.#touch();
  }

  addUnpacked(count: number): void {
    this.#unpackedBytes += count;
    this.#touch();
  }

  get snapshot(): LayerProgress {
    return {
      digest: this.#digest,
      sizeBytes: this.#sizeBytes,
      downloadedBytes: this.#downloadedBytes,
      unpackedBytes: this.#unpackedBytes,
      phase: this.#phase,
      endpoint: this.#endpoint,
      bytesPerSecond: this.#phase === 'downloading' ? this.#speed.bytesPerSecond(performance.now()) : 0,
    };
  }
}

const windowMs = 1000;

/** Speed over the window before this one and as much of this one as has passed. Times are of `performance.now`. */
export class SpeedMeter {
  #startMs = 0;
  #bytes = 0;
  #beforeMs = 0;
  #beforeBytes = 0;

  add(bytes: number, nowMs: number): void {
    if (this.#startMs === 0) this.#startMs = nowMs;
    this.#turn(nowMs);
    this.#bytes += bytes;
  }

  bytesPerSecond(nowMs: number): number {
    if (this.#startMs === 0) return 0;
    this.#turn(nowMs);
    const passedMs = this.#beforeMs + (nowMs - this.#startMs);
    return passedMs <= 0 ? 0 : Math.round(((this.#beforeBytes + this.#bytes) * 1000) / passedMs);
  }

  #turn(nowMs: number): void {
    const passedMs = nowMs - this.#startMs;
    if (passedMs < windowMs) return;
    [this.#beforeMs, this.#beforeBytes] = [passedMs, this.#bytes];
    [this.#startMs, this.#bytes] = [nowMs, 0];
  }
}
