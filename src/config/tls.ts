import type { SecureVersion } from 'node:tls';
import type { Config } from './config.ts';

/** Names of Go's cipher suites for TLS 1.0 to 1.3, those it calls insecure among them. */
const suites = new Set([
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_RSA_WITH_RC4_128_SHA',
  'TLS_RSA_WITH_3DES_EDE_CBC_SHA',
  'TLS_RSA_WITH_AES_128_CBC_SHA',
  'TLS_RSA_WITH_AES_256_CBC_SHA',
  'TLS_RSA_WITH_AES_128_CBC_SHA256',
  'TLS_RSA_WITH_AES_128_GCM_SHA256',
  'TLS_RSA_WITH_AES_256_GCM_SHA384',
  'TLS_ECDHE_ECDSA_WITH_RC4_128_SHA',
  'TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA',
  'TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA',
  'TLS_ECDHE_RSA_WITH_RC4_128_SHA',
  'TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA',
  'TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA',
  'TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA',
  'TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256',
  'TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256',
  'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256',
  'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256',
  'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384',
  'TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384',
  'TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256',
  'TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256',
]);

export function isKnownCipherSuite(name: string): boolean {
  return suites.has(name);
}

/** What `tls_min_version` and `tls_cipher_suites` ask of every TLS server of the daemon; pure. */
export function tlsLimits(api: Pick<Config['api'], 'tlsMinVersion' | 'tlsCipherSuites'>): {
  readonly minVersion: SecureVersion;
  /** OpenSSL's names joined by colons; undefined: the default. */
  readonly ciphers: string | undefined;
} {
  return {
    minVersion: api.tlsMinVersion === 'VersionTLS13' ? 'TLSv1.3' : 'TLSv1.2',
    ciphers: ciphersOf(api),
  };
}

function ciphersOf({
  tlsCipherSuites,
  tlsMinVersion,
}: Pick<Config['api'], 'tlsMinVersion' | 'tlsCipherSuites'>): string | undefined {
  if (tlsCipherSuites.length === 0 || tlsMinVersion === 'VersionTLS13') return undefined;
  return [...new Set([...tls13Suites, ...tlsCipherSuites.map(openSslName)])].join(':');
}

/** Go's list is about TLS 1.2 alone. Without these names Node would switch TLS 1.3 off. */
const tls13Suites = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'];

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
