import { createCollectors } from './collectors.ts';
import type { Metrics, MetricsOptions } from './metrics.ts';
import { countDefunct, createProcessMetrics } from './process-metrics.ts';
import { createPullGauges } from './pull-gauges.ts';
import { metricsSettings } from './settings.ts';
import { serveMetrics } from './serve-metrics.ts';
import { asGoPrints } from './text-format.ts';

/** Makes all metrics. The bundle puts this file's static imports at its own top, so prom-client (18 MB) is imported here. */
export async function startMetrics({ config, pulls, log }: MetricsOptions): Promise<Metrics> {
  const client = await import('prom-client');
  const settings = metricsSettings(config());
  const registry = new client.Registry();
  const observers = createCollectors({
    client,
    registry,
    isWanted: (name) => settings.collectors.has(name),
    defaultRuntime: () => config().runtime.defaultRuntime,
    countDefunct,
  });
  createProcessMetrics({ client, registry });
  createPullGauges({ client, registry, pulls });
  const servers = new AsyncDisposableStack();
  const scrape = async () => ({ contentType: registry.contentType, body: asGoPrints(await registry.metrics()) });
  return {
    ...observers,
    async listen() {
      await serveMetrics(servers, { settings, scrape, log });
    },
    [Symbol.asyncDispose]: () => servers.disposeAsync(),
  };
}
