import type { TlsSettings } from '../base/certificate-files.ts';
import type { Config } from '../config/config.ts';
import { stripCollector } from '../config/load.ts';
import { tlsLimits } from '../config/tls.ts';

export interface MetricsSettings {
  readonly host: string;
  readonly port: number;
  /** Path of a unix socket; empty for none. */
  readonly socket: string;
  /** For the port and the socket; undefined: plain HTTP. */
  readonly tls: TlsSettings | undefined;
  /** Names without prefix. */
  readonly collectors: ReadonlySet<string>;
}

/** What the configuration says about metrics; pure. */
export function metricsSettings({ metrics, api }: Pick<Config, 'metrics' | 'api'>): MetricsSettings {
  const { metricsHost, metricsPort, metricsSocket, metricsCert, metricsKey, metricsCollectors } = metrics;
  const isSecure = metricsCert !== '' && metricsKey !== '';
  return {
    host: metricsHost,
    port: metricsPort,
    socket: metricsSocket,
    tls: isSecure
      ? { owner: 'metrics server', cert: metricsCert, key: metricsKey, ca: '', ...tlsLimits(api) }
      : undefined,
    collectors: new Set(metricsCollectors.map(stripCollector)),
  };
}
