import type { TlsSettings } from '../base/certificate-files.ts';
import { CrioError } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { parseDuration } from '../config/go-duration.ts';
import { tlsLimits } from '../config/tls.ts';

const defaultIdleTimeoutMs = 4 * 60 * 60 * 1000;

export interface StreamSettings {
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  readonly idleTimeoutMs: number;
  readonly tls: TlsSettings | undefined;
}

/** What the configuration says, checked; pure. */
export function settingsOf(api: Config['api']): StreamSettings {
  return {
    host: api.streamAddress,
    port: portOf(api.streamPort),
    idleTimeoutMs: idleTimeoutOf(api.streamIdleTimeout),
    tls: api.streamEnableTls
      ? {
          owner: 'stream server',
          cert: api.streamTlsCert,
          key: api.streamTlsKey,
          ca: api.streamTlsCa,
          ...tlsLimits(api),
        }
      : undefined,
  };
}

function portOf(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (port <= 65535) return port;
  throw new CrioError('invalid', `stream_port "${text}": not a port`);
}

function idleTimeoutOf(text: string): number {
  if (text === '') return defaultIdleTimeoutMs;
  const ms = parseDuration(text);
  if (ms === undefined) throw new CrioError('invalid', `stream_idle_timeout "${text}": not a duration`);
  return ms;
}
