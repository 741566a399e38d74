import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { O_CLOEXEC, O_NONBLOCK, O_WRONLY } from '../sys/arch.ts';
import type { TerminalSize } from '../sys/terminal.ts';

/** conmon up to 2.1.13 handles only the first of several messages that it reads at once, and that again for each. */
const pauseMs = 25;
/** Newer conmons take no larger ones. */
const maxSize = 1000;
/** ctl code 2; the other numbers have no meaning but must be there. */
const reopenMessage = '2 0 0\n';

/** Messages for one monitor, sent one by one. */
interface Queue {
  readonly reopens: PromiseWithResolvers<void>[];
  size: { readonly message: string; readonly log: Logger } | undefined;
}

/** By path of `ctl`, while one waits or has just been sent. */
const queues = new Map<string, Queue>();

/** Of sizes that come too fast only the last is sent. It is never worth an error: what goes wrong is logged. */
export function resizeThroughMonitor(log: Logger, bundle: string, { width, height }: TerminalSize): void {
  const message = `1 ${Math.min(height, maxSize)} ${Math.min(width, maxSize)}\n`;
  enqueue(join(bundle, 'ctl'), (queue) => (queue.size = { message, log }));
}

/** Resolves when the monitor has been asked to open the log anew. Throws ENXIO or ENOENT when there is none. */
export function reopenThroughMonitor(bundle: string): Promise<void> {
  const sent = Promise.withResolvers<void>();
  enqueue(join(bundle, 'ctl'), ({ reopens }) => reopens.push(sent));
  return sent.promise;
}

function enqueue(path: string, add: (queue: Queue) => void): void {
  const waiting = queues.get(path);
  if (waiting !== undefined) {
    add(waiting);
    return;
  }
  const queue: Queue = { reopens: [], size: undefined };
  add(queue);
  queues.set(path, queue);
  sendNext(path, queue);
}

function sendNext(path: string, queue: Queue): void {
  const { size } = queue;
  if (queue.reopens.length > 0) sendReopen(path, queue.reopens.splice(0));
  else if (size !== undefined) {
    queue.size = undefined;
    sendSize(path, size);
  } else {
    queues.delete(path);
    return;
  }
  setTimeout(() => sendNext(path, queue), pauseMs);
}

/** One message is an answer to all who wait. */
function sendReopen(path: string, waiting: readonly PromiseWithResolvers<void>[]): void {
  try {
    sendToMonitor(path, reopenMessage);
    for (const { resolve } of waiting) resolve();
  } catch (error) {
    for (const { reject } of waiting) reject(error);
  }
}

/** A monitor that has ended (ENXIO), or does not read, is nothing new. */
function sendSize(path: string, { message, log }: NonNullable<Queue['size']>): void {
  try {
    sendToMonitor(path, message);
  } catch (error) {
    if (!hasCode(error, 'ENXIO', 'ENOENT', 'EAGAIN')) log.warn(`resize the terminal of "${path}"`, error);
  }
}

/** The whole line in one write: conmon mixes up what comes in parts. Without a reader ENXIO instead of waiting forever. */
function sendToMonitor(path: string, line: string): void {
  const fd = openSync(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  try {
    writeSync(fd, line);
  } finally {
    closeSync(fd);
  }
}
