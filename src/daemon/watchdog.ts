import { setTimeout as sleep } from 'node:timers/promises';
import { CrioError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';

type Env = Readonly<Record<string, string | undefined>>;

const shortestMs = 1000;

/**
 * How often the service manager wants a sign of life, sd_watchdog_enabled(3), in ms: it ends the daemon when none came for
 * so long. Undefined when it asks for none, or another process. Throws for 1 s or less, as CRI-O does.
 */
export function watchdogTimeoutMs(env: Env, pid: number): number | undefined {
  const text = env['WATCHDOG_USEC'] ?? '';
  const owner = env['WATCHDOG_PID'] ?? '';
  if (text === '' || (owner !== '' && owner !== String(pid))) return undefined;
  const timeoutMs = /^\d+$/.test(text) ? Number(text) / 1000 : 0;
  if (timeoutMs <= shortestMs)
    throw new CrioError('invalid', `watchdog timeout of ${JSON.stringify(text)} µs: must be more than 1 s`);
  return timeoutMs;
}

/** Looks at the daemon's health every half of the time, and tells the service manager when it is good. */
export function startWatchdog(options: {
  readonly timeoutMs: number;
  /** Throws when the daemon is not well, or not within so long. */
  readonly check: (limitMs: number) => Promise<void>;
  readonly notify: (state: string) => void;
  /** Aborted when the daemon stops: it answers nobody then. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}): AsyncDisposable {
  const { timeoutMs, check, notify, log } = options;
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, options.signal]);
  const intervalMs = timeoutMs / 2;
  const look = async (): Promise<void> => {
    try {
      await check(intervalMs);
      notify('WATCHDOG=1');
    } catch (error) {
      if (!signal.aborted) log.error('Will not tell the watchdog that the daemon is well', error);
    }
  };
  const watch = async (): Promise<void> => {
    while (!signal.aborted) {
      await sleep(intervalMs, undefined, { signal, ref: false }).catch(() => undefined);
      if (!signal.aborted) await look();
    }
  };
  log.info(`The watchdog wants a sign of life every ${timeoutMs / 1000} s`);
  const watching = watch();
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watching;
    },
  };
}
