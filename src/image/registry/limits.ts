/** Budgets of one endpoint. Each is counted apart: a slow answer of one never eats the time of the next. */
export interface TransportLimits {
  /** Name look-up, TCP and TLS, ms */
  readonly connectMs: number;
  /** From the request to the first byte of the answer, ms */
  readonly firstByteMs: number;
  /** Longest silence inside a body, ms; only time spent waiting for the network counts */
  readonly stallMs: number;
  /** Least throughput over `windowMs` of waiting; 0 for none */
  readonly minBytesPerSecond: number;
  readonly windowMs: number;
  /** Tries of one request after failures that pass: resets, 429, 5xx */
  readonly attempts: number;
  /** First pause between tries; it doubles. ms */
  readonly backoffMs: number;
  /** Longest Retry-After that is waited for; a longer one is an error at once. ms */
  readonly maxRetryAfterMs: number;
}

export const defaultLimits: TransportLimits = {
  connectMs: 10_000,
  firstByteMs: 30_000,
  stallMs: 30_000,
  minBytesPerSecond: 1024,
  windowMs: 60_000,
  attempts: 4,
  backoffMs: 250,
  maxRetryAfterMs: 60_000,
};

const MiB = 1024 * 1024;

/** Most bytes that are read of each kind of document (CVE-2020-1702). */
export const bodyLimits = {
  manifest: 4 * MiB,
  config: 4 * MiB,
  token: 1 * MiB,
  error: 64 * 1024,
  signature: 4 * MiB,
} as const;

/** Redirects followed in a row. */
export const maxRedirects = 5;
