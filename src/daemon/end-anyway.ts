import type { Logger } from '../base/log.ts';

/**
 * Call it when the daemon has closed everything. Its process then ends by itself; should something keep it (a worker or a
 * descriptor that an error left open), the log says so, and the process ends after `graceMs` all the same: a service
 * manager must not have to kill it.
 */
export function endAnyway(log: Logger, code: number, graceMs = 2000): void {
  const end = () => {
    log.warn(`Ending although something is still open (${process.getActiveResourcesInfo().join(', ')})`);
    process.exit(code);
  };
  setTimeout(end, graceMs).unref();
}
