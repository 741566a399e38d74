import type { Logger } from '../base/log.ts';
import { alarm } from '../sys/process.ts';

/**
 * Call it when the daemon has closed everything. Its process then ends by itself; should something keep it (a worker or a
 * descriptor that an error left open), the log says so, and the process ends with its exit code after `graceMs` all the
 * same. An exit waits for threads, also for one that hangs in the kernel, on a disk that does not answer: `lastSeconds`
 * later SIGALRM ends that too, where the kernel lets it. A service manager must not have to kill it.
 */
export function endAnyway(log: Logger, { graceMs = 2000, lastSeconds = 10 } = {}): void {
  alarm(Math.ceil(graceMs / 1000) + lastSeconds);
  const end = () => {
    log.warn(`Ending although something is still open (${process.getActiveResourcesInfo().join(', ')})`);
    process.exit();
  };
  setTimeout(end, graceMs).unref();
}
