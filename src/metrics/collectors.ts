import type * as prom from 'prom-client';
import type { Counter, Gauge, Histogram, Metric, Registry, Summary } from 'prom-client';
import { failureLabelOf, mediaTypeLabel, RecentValues, sizeLabel } from './labels.ts';
import type { MetricsObservers } from './metrics.ts';

type PromClient = typeof prom;

const prefix = 'container_runtime_crio_';
/** Of labels whose values nobody bounds: names of containers and of layers. */
const maxSeries = 1000;
const summaryWindow = { maxAgeSeconds: 600, ageBuckets: 5 };

/**
 * CRI-O's 18 metrics (cri-behaviour 11 of the project's notes; CRI-O's tutorials/metrics.md). Those that `isWanted`
 * refuses, by the name without prefix, are not exposed.
 */
export function createCollectors(options: {
  readonly client: PromClient;
  readonly registry: Registry;
  readonly isWanted: (name: string) => boolean;
  readonly defaultRuntime: () => string;
  /** Zombies on this machine, counted at each scrape. */
  readonly countDefunct: () => Promise<number>;
}): MetricsObservers {
  const { client } = options;
  const define = definer(options);
  define(
    'default_runtime',
    (base) =>
      new client.Gauge({
        ...base,
        labelNames: ['runtime'],
        collect() {
          this.reset();
          this.set({ runtime: options.defaultRuntime() }, 1);
        },
      }),
    'The default runtime of the node',
  );
  define(
    'processes_defunct',
    (base) =>
      new client.Gauge({
        ...base,
        async collect() {
          this.set(await options.countDefunct());
        },
      }),
    'Total number of defunct processes in the node',
  );
  return {
    ...operationMetrics(client, define),
    ...containerMetrics(client, define),
    pull: pullMetrics(client, define),
  };
}

interface Base {
  readonly name: string;
  readonly help: string;
  readonly registers: Registry[];
}

type Define = <M extends Metric>(name: string, make: (base: Base) => M, help: string) => M;

/** A metric that is not wanted counts all the same, in no registry: the code that counts need not ask. */
function definer({ registry, isWanted }: { registry: Registry; isWanted: (name: string) => boolean }): Define {
  return (name, make, help) => make({ name: `${prefix}${name}`, help, registers: isWanted(name) ? [registry] : [] });
}

function operationMetrics(client: PromClient, define: Define) {
  const counter = (name: string, help: string): Counter<'operation'> =>
    define(name, (base) => new client.Counter({ ...base, labelNames: ['operation'] }), help);
  const total = counter('operations_total', 'Cumulative number of CRI-O operations by operation type.');
  const errors = counter('operations_errors_total', 'Cumulative number of CRI-O operation errors by operation type.');
  const last: Gauge<'operation'> = define(
    'operations_latency_seconds',
    (base) => new client.Gauge({ ...base, labelNames: ['operation'] }),
    'Latency in seconds of individual CRI calls for CRI-O operations. Broken down by operation type.',
  );
  const latency: Summary<'operation'> = define(
    'operations_latency_seconds_total',
    (base) =>
      new client.Summary({ ...base, ...summaryWindow, labelNames: ['operation'], percentiles: [0.5, 0.9, 0.99] }),
    'Latency in seconds of CRI-O operations. Split-up by operation type.',
  );
  const stalled: Counter<'stage'> = define(
    'resources_stalled_at_stage',
    (base) => new client.Counter({ ...base, labelNames: ['stage'] }),
    'Resource creation stage pods or containers are stalled at.',
  );
  return {
    operationDone(operation: string, durationMs: number, failed: boolean) {
      total.inc({ operation });
      if (failed) errors.inc({ operation });
      last.set({ operation }, durationMs / 1000);
      latency.observe({ operation }, durationMs / 1000);
    },
    networkSetUp: (operation: string, durationMs: number) => last.set({ operation }, durationMs / 1000),
    stalled: (stage: string) => stalled.inc({ stage: stage === '' ? 'unknown' : stage }),
  };
}

function containerMetrics(client: PromClient, define: Define) {
  const oom: Counter = define(
    'containers_oom_total',
    (base) => new client.Counter(base),
    'Total number of containers killed because they ran out of memory (OOM)',
  );
  const named = (name: string, help: string): Counter<'name'> =>
    define(name, (base) => new client.Counter({ ...base, labelNames: ['name'] }), help);
  const oomCount = named(
    'containers_oom_count_total',
    'Containers killed because they ran out of memory (OOM) by their name',
  );
  const monitors = named(
    'containers_stopped_monitor_count',
    'Containers whose monitor ended while they went on, by name',
  );
  const seccomp: Counter<'name' | 'syscall'> = define(
    'containers_seccomp_notifier_count_total',
    (base) => new client.Counter({ ...base, labelNames: ['name', 'syscall'] }),
    'Forbidden syscalls by the name of the container that was ended for them',
  );
  const dropped: Counter = define(
    'containers_events_dropped_total',
    (base) => new client.Counter(base),
    'Amount of container events dropped',
  );
  const syscalls = new Map<string, Set<string>>();
  const names = new RecentValues(maxSeries, (name) => {
    oomCount.remove({ name });
    monitors.remove({ name });
    for (const syscall of syscalls.get(name) ?? []) seccomp.remove({ name, syscall });
    syscalls.delete(name);
  });
  return {
    oomKilled(name: string) {
      oom.inc();
      oomCount.inc({ name: names.use(name) });
    },
    monitorLost: (name: string) => monitors.inc({ name: names.use(name) }),
    containerRemoved: (name: string) => names.delete(name),
    eventDropped: () => dropped.inc(),
    seccompNotified(name: string, syscall: string) {
      seccomp.inc({ name: names.use(name), syscall });
      syscalls.set(name, (syscalls.get(name) ?? new Set()).add(syscall));
    },
  };
}

/** 1 KB to 10 GB, bytes */
const layerSizes = [1e3, 1e6, 1e7, 5e7, 1e8, 2e8, 3e8, 4e8, 5e8, 1e9, 1e10];

function pullMetrics(client: PromClient, define: Define): MetricsObservers['pull'] {
  const layerSize: Histogram = define(
    'image_pulls_layer_size',
    (base) => new client.Histogram({ ...base, buckets: layerSizes }),
    'Bytes transferred by CRI-O image pulls per layer',
  );
  const bytes: Counter<'mediatype' | 'size'> = define(
    'image_pulls_bytes_total',
    (base) => new client.Counter({ ...base, labelNames: ['mediatype', 'size'] }),
    'Bytes transferred by CRI-O image pulls',
  );
  const skipped: Counter<'size'> = define(
    'image_pulls_skipped_bytes_total',
    (base) => new client.Counter({ ...base, labelNames: ['size'] }),
    'Bytes skipped by CRI-O image pulls',
  );
  const failure: Counter<'error'> = define(
    'image_pulls_failure_total',
    (base) => new client.Counter({ ...base, labelNames: ['error'] }),
    'Cumulative number of CRI-O image pull failures by error.',
  );
  const success: Counter = define(
    'image_pulls_success_total',
    (base) => new client.Counter(base),
    'Cumulative number of CRI-O image pull successes.',
  );
  const reuse: Counter<'name'> = define(
    'image_layer_reuse_total',
    (base) => new client.Counter({ ...base, labelNames: ['name'] }),
    'Reused (not pulled) local image layer count by name',
  );
  const layers = new RecentValues(maxSeries, (name) => reuse.remove({ name }));
  return {
    downloaded: ({ mediaType, size }, count) =>
      bytes.inc({ mediatype: mediaTypeLabel(mediaType), size: sizeLabel(size) }, count),
    layerDone({ digest, size }, how, reference) {
      if (how === 'downloaded') {
        layerSize.observe(size);
        return;
      }
      skipped.inc({ size: sizeLabel(size) }, size);
      reuse.inc({ name: layers.use(`${reference}@${digest}`) });
    },
    pullDone(error) {
      if (error === undefined) success.inc();
      else failure.inc({ error: failureLabelOf(error) });
    },
  };
}
