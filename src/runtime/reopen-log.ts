import { closeSync, lstatSync, openSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Call } from '../base/call.ts';
import { CrioError, hasCode, wrap } from '../base/errors.ts';
import { O_CLOEXEC, O_NONBLOCK, O_WRONLY } from '../sys/arch.ts';

/** ctl code 2; the other numbers have no meaning but must be there. */
const reopenMessage = '2 0 0\n';
const waitLimitMs = 10_000;
const maxPauseMs = 20;

/**
 * Asks the monitor to open the log anew, and returns when the new file is in place. The folder is checked first: conmon
 * ends, and leaves the container without a monitor, when it is gone.
 */
export async function reopenLog(
  call: Call,
  options: { readonly bundle: string; readonly logPath: string },
): Promise<void> {
  const folder = dirname(options.logPath);
  if (statSync(folder, { throwIfNoEntry: false }) === undefined)
    throw new CrioError('unknown', `reopen log "${options.logPath}": no folder "${folder}"`);
  const before = inodeOf(options.logPath);
  sendToMonitor(join(options.bundle, 'ctl'));
  const endMs = performance.now() + Math.min(waitLimitMs, call.remainingMs() ?? waitLimitMs);
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, maxPauseMs)) {
    const now = inodeOf(options.logPath);
    // The monitor holds the old file until it has renamed the new one, so its number cannot come back.
    if (now !== undefined && now !== before) return;
    if (performance.now() > endMs)
      throw new CrioError('deadline', `reopen log "${options.logPath}": the monitor does not answer`);
    call.throwIfAborted();
    await sleep(pauseMs);
  }
}

/** The whole line in one write: conmon mixes up what comes in parts. Without a reader ENXIO instead of waiting forever. */
function sendToMonitor(path: string): void {
  try {
    const fd = openSync(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    try {
      writeSync(fd, reopenMessage);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (hasCode(error, 'ENXIO')) throw new CrioError('unknown', `reopen log: the monitor of "${path}" has ended`);
    throw wrap('reopen log', error);
  }
}

function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}
