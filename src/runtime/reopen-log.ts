import { lstatSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Call } from '../base/call.ts';
import { CrioError, hasCode, wrap } from '../base/errors.ts';
import { reopenThroughMonitor } from './monitor-control.ts';

const waitLimitMs = 10_000;
const maxPauseMs = 20;
/**
 * conmon loses a message that it reads together with another. Asked again it does not hurt unless the first question is
 * only just being worked on: what the container has printed in between would be lost with the first new file.
 */
const askAgainMs = 400;

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
  await askMonitor(options.bundle);
  let askedMs = performance.now();
  const endMs = askedMs + Math.min(waitLimitMs, call.remainingMs() ?? waitLimitMs);
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, maxPauseMs)) {
    const now = inodeOf(options.logPath);
    // The monitor holds the old file until it has renamed the new one, so its number cannot come back.
    if (now !== undefined && now !== before) return;
    if (performance.now() > endMs)
      throw new CrioError('deadline', `reopen log "${options.logPath}": the monitor does not answer`);
    call.throwIfAborted();
    if (performance.now() - askedMs > askAgainMs && !isBeingOpened(options.logPath)) {
      await askMonitor(options.bundle);
      askedMs = performance.now();
    }
    await sleep(pauseMs);
  }
}

async function askMonitor(bundle: string): Promise<void> {
  try {
    await reopenThroughMonitor(bundle);
  } catch (error) {
    if (hasCode(error, 'ENXIO')) throw new CrioError('unknown', `reopen log: the monitor of "${bundle}" has ended`);
    // It does not read: asked again later.
    if (!hasCode(error, 'EAGAIN')) throw wrap('reopen log', error);
  }
}

/** The new file is made under this name, and then renamed. */
function isBeingOpened(logPath: string): boolean {
  return lstatSync(`${logPath}.tmp`, { throwIfNoEntry: false }) !== undefined;
}

function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}
