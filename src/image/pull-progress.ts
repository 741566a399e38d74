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
  /** Tells pulls of one name apart that run at once; no other pull of this process has it. */
  readonly id: number;
  /** As the caller wrote it. */
  readonly reference: string;
  /** Kubernetes namespace it is pulled for; `` for none. */
  readonly namespace: string;
  /** ms since the epoch */
  readonly startedMs: number;
  readonly phase: 'resolving' | 'layers' | 'committing' | 'done' | 'failed';
  readonly layers: readonly LayerProgress[];
}

/** What of a layer its numbers are counted under. */
export interface CountedLayer {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Of the blob, bytes */
  readonly size: number;
}

/** Told what pulls do, for counting; must not throw. */
export interface PullObserver {
  /** So many more bytes of a blob were downloaded. */
  downloaded(layer: CountedLayer, bytes: number): void;
  /** A whole blob was downloaded, or found to be here, or on its way for another pull. */
  layerDone(layer: CountedLayer, how: 'downloaded' | 'reused', reference: string): void;
  /** Undefined for success, else the kind of failure: a registry's code, `CONNECTION_REFUSED`, `NOT_FOUND`, `UNKNOWN` ... */
  pullDone(failure: string | undefined): void;
}

/** The counters of one running pull. */
export class PullTracker {
  readonly reference: string;
  readonly namespace: string;
  readonly startedMs = Date.now();
  static #count = 0;
  readonly #id = (PullTracker.#count += 1);
  readonly #observer: PullObserver | undefined;
  #phase: PullProgress['phase'] = 'resolving';
  #layers: LayerTracker[] = [];
  #lastChangeMs = performance.now();

  constructor(reference: string, namespace = '', observer?: PullObserver) {
    this.reference = reference;
    this.namespace = namespace;
    this.#observer = observer;
  }

  setPhase(phase: PullProgress['phase']): void {
    this.#phase = phase;
    this.touch();
  }

  setLayers(layers: readonly CountedLayer[]): readonly LayerTracker[] {
    this.#layers = layers.map(
      (layer) =>
        new LayerTracker(layer, {
          touch: () => this.touch(),
          downloaded: (bytes) => this.#observer?.downloaded(layer, bytes),
          done: (how) => this.#observer?.layerDone(layer, how, this.reference),
        }),
    );
    return this.#layers;
  }

  /** Milliseconds since anything moved. */
  get idleMs(): number {
    return performance.now() - this.#lastChangeMs;
  }

  get snapshot(): PullProgress {
    return {
      id: this.#id,
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

interface LayerListener {
  touch(): void;
  downloaded(bytes: number): void;
  done(how: 'downloaded' | 'reused'): void;
}

export class LayerTracker {
  readonly #layer: CountedLayer;
  readonly #listener: LayerListener;
  /** Trackers of other pulls that wait for this layer: what moves here moves there. */
  readonly #followers = new Set<LayerTracker>();
  /** Whose bytes are shown, while another pull brings the layer. */
  #leader: LayerTracker | undefined;
  #downloadedBytes = 0;
  #unpackedBytes = 0;
  #phase: LayerPhase = 'waiting';
  #endpoint = '';
  readonly #speed = new SpeedMeter();
  /** To be told by the stream of the layer's blob. */
  readonly callbacks = {
    onBytes: (count: number) => this.addBytes(count),
    onEndpoint: (label: string) => this.setEndpoint(label),
    onRestart: () => this.restart(),
  };

  constructor(layer: CountedLayer, listener: LayerListener) {
    this.#layer = layer;
    this.#listener = listener;
  }

  setPhase(phase: LayerPhase): void {
    if (phase === 'downloading') this.#follow(undefined);
    if (phase === 'done') this.#listener.done(this.#phase === 'downloading' ? 'downloaded' : 'reused');
    if (phase === 'exists') this.#listener.done('reused');
    this.#phase = phase;
    this.#touch();
  }

  /** Another pull brings this layer; `leader` is its tracker. */
  setJoined(leader: LayerTracker | undefined): void {
    this.#follow(leader);
    this.setPhase('joined');
  }

  setEndpoint(endpoint: string): void {
    this.#endpoint = endpoint;
  }

  /** What came was wrong: it comes again from its start. */
  restart(): void {
    this.#downloadedBytes = 0;
    this.#unpackedBytes = 0;
    this.#touch();
  }

  addBytes(count: number): void {
    this.#downloadedBytes += count;
    this.#speed.add(count, performance.now());
    this.#listener.downloaded(count);
    this.#touch();
  }

  addUnpacked(count: number): void {
    this.#unpackedBytes += count;
    this.#touch();
  }

  get snapshot(): LayerProgress {
    const source = this.#leader ?? this;
    const isMoving = this.#phase === 'downloading' || this.#phase === 'joined';
    return {
      digest: this.#layer.digest,
      sizeBytes: this.#layer.size,
      downloadedBytes: source.#downloadedBytes,
      unpackedBytes: source.#unpackedBytes,
      phase: this.#phase,
      endpoint: source.#endpoint,
      bytesPerSecond: isMoving ? source.#speed.bytesPerSecond(performance.now()) : 0,
    };
  }

  #follow(leader: LayerTracker | undefined): void {
    if (this.#leader !== undefined) this.#leader.#followers.delete(this);
    this.#leader = leader === this ? undefined : leader;
    if (this.#leader !== undefined) this.#leader.#followers.add(this);
  }

  #touch(): void {
    this.#listener.touch();
    for (const follower of this.#followers) follower.#listener.touch();
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
