import type { Logger } from '../base/log.ts';
import { alarm } from '../sys/process.ts';

const lastSeconds = 10;

/**
 * The daemon is made to be killed at any time, so after an error that nobody has thought of it ends: its state may be half
 * changed. It says why in its log, and the service manager starts it anew; containers go on meanwhile. Until disposed of.
 */
export function endOnUncaughtErrors(log: Logger): Disposable {
  const end = (error: unknown, origin: NodeJS.UncaughtExceptionOrigin) => {
    const text = error instanceof Error ? (error.stack ?? String(error)) : String(error);
    // An exit waits for threads, also for one that hangs.
    alarm(lastSeconds);
    log.fatal(`${origin === 'unhandledRejection' ? 'Unhandled rejection' : 'Uncaught exception'}: ${text}`);
    process.exit(1);
  };
  process.on('uncaughtException', end);
  return { [Symbol.dispose]: () => void process.off('uncaughtException', end) };
}
