import { CrioError } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { parseDuration } from '../config/go-duration.ts';
import type { TlsSettings } from './tls.ts';

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
          cert: api.streamTlsCert,
          key: api.streamTlsKey,
          ca: api.streamTlsCa,
          minVersion: api.tlsMinVersion === 'VersionTLS13' ? 'TLSv1.3' : 'TLSv1.2',
          ciphers: ciphersOf(api),
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

function ciphersOf({ tlsCipherSuites, tlsMinVersion }: Config['api']): string | undefined {
  if (tlsCipherSuites.length === 0 || tlsMinVersion === 'VersionTLS13') return undefined;
  return tlsCipherSuites.map(openSslName).join(':');
}

/** OpenSSL's name of a cipher suite for Go's: `ECDHE-RSA-AES128-GCM-SHA256`; those of TLS 1.3 are the same. Pure. */
export function openSslName(goName: string): string {
  const [, exchange, cipher] = /^TLS_(.+)_WITH_(.+)$/.exec(goName) ?? [];
  if (exchange === undefined || cipher === undefined) return goName;
  const name = cipher
    .replace(/^3DES_EDE_CBC/, 'DES_CBC3')
    .replace(/^RC4_128/, 'RC4')
    .replace(/^CHACHA20_POLY1305_SHA256$/, 'CHACHA20_POLY1305')
    .replace(/^AES_(\d+)_(?:CBC_)?/, 'AES$1_');
  return (exchange === 'RSA' ? name : `${exchange}_${name}`).replaceAll('_', '-');
}
