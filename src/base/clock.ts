import { hrtime } from 'node:process';

/** Where time comes from; tests hand in their own. */
export interface Clock {
  /** Wall-clock time, nanoseconds since the Unix epoch. */
  nowNs(): bigint;
  /** Monotonic milliseconds, for durations. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with the signal's reason when aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** setTimeout takes no more, and fires at once instead. */
export const longestTimerMs: number = 2 ** 31 - 1;

/** The offset is read once: hrtime has nanoseconds, Date only milliseconds. */
const wallOffsetNs = BigInt(Date.now()) * 1_000_000n - hrtime.bigint();
const maxDriftNs = 1_000_000_000n;

export const systemClock: Clock = {
  nowNs() {
    const coarse = BigInt(Date.now()) * 1_000_000n;
    const fine = hrtime.bigint() + wallOffsetNs;
    const drift = coarse > fine ? coarse - fine : fine - coarse;
    return drift > maxDriftNs ? coarse : fine;
  },
  monotonicMs() {
    return performance.now();
  },
  sleep(ms, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  },
};

/** RFC 3339 UTC with up to nine fractional digits, trailing zeros dropped, as Go's RFC3339Nano prints. */
export function formatTimeNs(ns: bigint): string {
  const seconds = ns / 1_000_000_000n;
  const fraction = ns % 1_000_000_000n;
  const head = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  if (fraction === 0n) return `${head}Z`;
  return `${head}.${fraction.toString().padStart(9, '0').replace(/0+$/, '')}Z`;
}

/** Go's zero time. It stands for "unset" in every file that CRI-O shares. */
export const zeroTime = '0001-01-01T00:00:00Z';

/**
 * Parses RFC 3339 with any offset and up to nine fractional digits.
 * Returns nanoseconds since the epoch, `0n` for Go's zero time, `undefined` when it is no time.
 */
export function parseTimeNs(text: string): bigint | undefined {
  if (text === zeroTime) return 0n;
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (match === null) return undefined;
  const ms = Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(ms)) return undefined;
  return BigInt(ms) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0') || '0');
}
