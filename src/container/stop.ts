import { CrioError, messageOf } from '../base/errors.ts';
import type { Call } from '../base/call.ts';
import { longestTimerMs, type Clock } from '../base/clock.ts';
import { describe, runtimeFor, type Context } from './context.ts';
import { cleanUpAfterExit, deriveExit, hasEnded, readExit, recordExit } from './exit.ts';
import { changeState } from './state.ts';
import { notFound, noLongerWaitedFor, type Entry } from './store.ts';

const sigkill = 9;
/** Below this age a program may not have set its signal handlers yet. */
const youngMs = 1000;
const firstKillPauseMs = 20;
/** Time for one that is not paused to end. */
const thawAfterMs = 500;
const longestKillPauseMs = 120_000;
const stuckAfterMs = 60_000;

/** A stop under way; all callers wait on the same one. */
export interface StopProgress {
  readonly grace: GracePeriod;
  readonly done: Promise<void>;
}

/**
 * Stops a container: its stop signal, the grace period, then SIGKILL until it has ended. Returns when the end is
 * recorded and the root file system unmounted. An unknown or stopped container is success.
 *
 * Several callers may stop the same container: they wait for one stop, and a later one can only shorten its grace
 * period. A caller that goes away ends nothing.
 */
export async function stopContainer(
  context: Context,
  call: Call,
  idOrPrefix: string,
  timeoutMs: number,
): Promise<void> {
  const entry = context.index.lookUp(idOrPrefix);
  if (idOrPrefix === '') throw new CrioError('not-found', 'container ID should not be empty');
  // As CRI-O: a container that is not yet created, and a pod's own, are known and yet not found.
  const isHidden = entry === undefined && context.index.get(idOrPrefix) !== undefined;
  if (entry === 'ambiguous' || isHidden || context.findPod(idOrPrefix)?.id === idOrPrefix) throw notFound(idOrPrefix);
  if (entry !== undefined) await stopEntry(context, call, entry, timeoutMs);
}

export async function stopEntry(context: Context, call: Call, entry: Entry, timeoutMs: number): Promise<void> {
  const { container } = entry;
  if (hasEnded(entry)) {
    await cleanUpAfterExit(context, entry);
    return;
  }
  context.log.info(() => `Stopping container: ${container.id} (timeout: ${Math.round(timeoutMs / 1000)}s)`);
  entry.stop ??= beginStop(context, entry);
  entry.stop.grace.shortenTo(context.clock.monotonicMs() + timeoutMs);
  await waitWhileCalled(call, entry.stop.done);
  context.log.info(() => `Stopped container ${container.id}: ${describe(container)}`);
}

function beginStop(context: Context, entry: Entry): StopProgress {
  const grace = new GracePeriod(context.clock);
  // Begins after the first caller has set its grace period.
  const done = Promise.resolve()
    .then(() => runStop(context, entry, grace))
    .finally(() => {
      grace.end();
      entry.stop = undefined;
    });
  done.catch(() => {});
  return { grace, done };
}

async function runStop(context: Context, entry: Entry, grace: GracePeriod): Promise<void> {
  const { state, stopSignal } = entry.container;
  if (state.status === 'unknown' && state.init === undefined) return deleteUnknown(context, entry);
  if (state.status === 'paused') await resume(context, entry);
  // A created container has no program yet that could shut down: the runtime's own process ignores the signal.
  if ((state.status === 'running' || state.status === 'unknown') && !grace.over.aborted && stopSignal !== sigkill) {
    await waitForHandler(context, entry, grace.over);
    if (!hasEnded(entry) && !grace.over.aborted) await sendSignal(context, entry, stopSignal);
    await firstOf(entry.ended.promise, grace.over);
    if (!hasEnded(entry)) {
      context.log.warn(
        `Stopping container ${entry.container.id} with stop signal(${stopSignal}) timed out. Killing...`,
      );
    }
  }
  if (!hasEnded(entry)) await killUntilEnded(context, entry);
  await cleanUpAfterExit(context, entry);
}

/** Only the runtime knows its process, and whether there is one: it ends it, or throws. */
async function deleteUnknown(context: Context, entry: Entry): Promise<void> {
  const { container } = entry;
  await runtimeFor(context, container.runtimeHandler).delete(context.ownCall('stop'), container.id);
  recordExit(context, entry, (await readExit(container)) ?? (await deriveExit(context, container)));
  await cleanUpAfterExit(context, entry);
}

/**
 * The kernel drops a signal to the init process of a PID namespace that has no handler for it, so one that comes
 * before the program is ready is lost for good. A young program gets a moment; one that never sets a handler would not
 * have noticed the signal anyway.
 */
async function waitForHandler(context: Context, entry: Entry, over: AbortSignal): Promise<void> {
  const { clock, processes } = context;
  const { stopSignal, state } = entry.container;
  const startedMs = entry.startedMs;
  if (startedMs === undefined || state.init === undefined) return;
  for (let pauseMs = 1; clock.monotonicMs() - startedMs < youngMs; pauseMs = Math.min(pauseMs * 2, 25)) {
    const status = processes.readStatus(state.init);
    if (status === undefined || status.innerPid !== 1) return;
    // runc's init is a Go program that handles every signal, until it becomes the container's program.
    if (status.hasHandler(stopSignal) && !status.name.startsWith('runc:[')) return;
    await firstOf(Promise.race([entry.ended.promise, clock.sleep(pauseMs)]), over);
    if (over.aborted || hasEnded(entry)) return;
  }
}

/** Straight to the process where there is one on this host: no program is started for it. */
async function sendSignal(context: Context, entry: Entry, signal: number): Promise<void> {
  const { container } = entry;
  const { init } = container.state;
  if (init !== undefined && context.isHostProcess(container)) {
    context.processes.signal(init, signal);
    return;
  }
  await runtimeFor(context, container.runtimeHandler).kill(context.ownCall('stop'), container.id, signal);
}

async function killUntilEnded(context: Context, entry: Entry): Promise<void> {
  const { clock, log } = context;
  entry.isBeingKilled = true;
  const sinceMs = clock.monotonicMs();
  let wasReported = false;
  for (let pauseMs = firstKillPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestKillPauseMs)) {
    try {
      if (entry.container.state.status === 'paused') await resume(context, entry);
      await sendSignal(context, entry, sigkill);
      if (entry.container.state.status === 'unknown') await thaw(context, entry);
    } catch (error) {
      log.warn(`kill container ${entry.container.id}`, error);
    }
    const pause = new AbortController();
    await Promise.race([entry.ended.promise, clock.sleep(pauseMs, pause.signal).catch(() => {})]);
    pause.abort(noLongerWaitedFor);
    if (hasEnded(entry)) return;
    if (!wasReported && clock.monotonicMs() - sinceMs > stuckAfterMs) {
      wasReported = true;
      log.warn(`Container ${entry.container.id} does not end on SIGKILL; it may hang in a system call`);
    }
  }
}

/** It may be paused, and then dies only when it goes on. One that is not paused is an error to some runtimes. */
async function thaw(context: Context, entry: Entry): Promise<void> {
  const pause = new AbortController();
  await Promise.race([entry.ended.promise, context.clock.sleep(thawAfterMs, pause.signal).catch(() => {})]);
  pause.abort(noLongerWaitedFor);
  if (hasEnded(entry)) return;
  const { id, runtimeHandler } = entry.container;
  await runtimeFor(context, runtimeHandler)
    .resume(context.ownCall('stop'), id)
    .catch((error: unknown) => context.log.debug(() => `resume container ${id}: ${messageOf(error)}`));
}

async function resume(context: Context, entry: Entry): Promise<void> {
  await runtimeFor(context, entry.container.runtimeHandler).resume(context.ownCall('stop'), entry.container.id);
  if (entry.container.state.status === 'paused') changeState(entry.container, { status: 'running' });
}

/** Ends the waiting, not the work, when the caller is gone. */
export async function waitWhileCalled(call: Call, work: Promise<void>): Promise<void> {
  await firstOf(work, call.signal);
  call.throwIfAborted();
  await work;
}

/** Returns when the work is done or the signal aborted; a failure of the work is thrown. */
function firstOf(work: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = () => {
      signal.removeEventListener('abort', done);
      resolve();
    };
    // Attached in any case: a failure that comes later must have somebody who has heard of it.
    work.then(done, (error: unknown) => {
      signal.removeEventListener('abort', done);
      reject(error instanceof Error ? error : new Error(String(error)));
    });
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', done, { once: true });
  });
}

/** The time until a container is killed; it can be shortened, never prolonged. */
export class GracePeriod {
  readonly #clock: Clock;
  readonly #over = new AbortController();
  #timer = new AbortController();
  #deadlineMs = Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Aborted when the time is up. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Monotonic time; a later one than before changes nothing. */
  shortenTo(deadlineMs: number): void {
    if (deadlineMs >= this.#deadlineMs) return;
    this.#deadlineMs = deadlineMs;
    this.#arm();
  }

  /** Stops the timer. */
  end(): void {
    this.#timer.abort(noLongerWaitedFor);
  }

  #arm(): void {
    this.#timer.abort(noLongerWaitedFor);
    const leftMs = this.#deadlineMs - this.#clock.monotonicMs();
    if (leftMs <= 0) {
      this.#over.abort(noLongerWaitedFor);
      return;
    }
    const timer = new AbortController();
    this.#timer = timer;
    this.#clock.sleep(Math.min(leftMs, longestTimerMs), timer.signal).then(
      () => this.#arm(),
      () => {},
    );
  }
}
