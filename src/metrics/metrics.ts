import type { Logger } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import type { PullObserver, PullProgress } from '../image/pull-progress.ts';

/** What `main.ts` lets the other features tell the metrics. Nothing of it throws or waits. */
export interface MetricsObservers {
  /** A unary RPC ended; bare method name. */
  readonly operationDone: (method: string, durationMs: number, failed: boolean) => void;
  /** The plugins of a pod answered (`network_setup_pod`); its network is complete (`network_setup_overall`). */
  readonly networkSetUp: (part: 'network_setup_pod' | 'network_setup_overall', durationMs: number) => void;
  /** A request for a name that is still being created; the stage of that creation. */
  readonly stalled: (stage: string) => void;
  readonly oomKilled: (containerName: string) => void;
  readonly monitorLost: (containerName: string) => void;
  /** Its numbers are forgotten. */
  readonly containerRemoved: (containerName: string) => void;
  /** A container event that a slow client did not get. */
  readonly eventDropped: () => void;
  readonly seccompNotified: (containerName: string, syscall: string) => void;
  readonly pull: PullObserver;
}

export interface Metrics extends MetricsObservers, AsyncDisposable {
  /** Answers scrapes from now on. Throws when an address is taken or a certificate cannot be read. */
  listen(): Promise<void>;
}

export interface MetricsOptions {
  readonly config: () => Config;
  /** Pulls that run now. */
  readonly pulls: () => readonly PullProgress[];
  readonly log: Logger;
}

/** Metrics for Prometheus. When they are off nothing is loaded, and all that it is told is dropped. */
export async function createMetrics(options: MetricsOptions): Promise<Metrics> {
  if (!options.config().metrics.enableMetrics) return { ...noObservers, listen: async () => {}, ...nothingToEnd };
  // 18 MB of memory that a daemon without metrics does not need.
  const { startMetrics } = await import('./start-metrics.ts');
  return startMetrics(options);
}

const nothing = () => {};

const noObservers: MetricsObservers = {
  operationDone: nothing,
  networkSetUp: nothing,
  stalled: nothing,
  oomKilled: nothing,
  monitorLost: nothing,
  containerRemoved: nothing,
  eventDropped: nothing,
  seccompNotified: nothing,
  pull: { downloaded: nothing, layerDone: nothing, pullDone: nothing },
};

const nothingToEnd = { [Symbol.asyncDispose]: async () => {} };
