import { CrioError } from './errors.ts';
import type { Logger } from './log.ts';

/** Called at every stage change; crash tests kill the daemon here, the timeline and the metrics read it. */
export type StageListener = (call: Call, stage: string) => void;

/**
 * What goes through every RPC and every operation: cancellation, log fields and the stage it is at.
 * An operation that others may join has a Call of its own, not that of a caller.
 */
export class Call {
  /** Full gRPC method, or the name of the background task. */
  readonly name: string;
  readonly id: string;
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Monotonic ms at which the caller stops waiting; undefined when it never does. */
  readonly deadlineMs: number | undefined;
  readonly startedMs = performance.now();
  readonly #onStage: StageListener | undefined;
  #stage = '';
  #waitsFor: string | undefined;
  #stageSinceMs = this.startedMs;

  constructor(options: {
    name: string;
    id: string;
    log: Logger;
    signal?: AbortSignal;
    deadlineMs?: number | undefined;
    onStage?: StageListener | undefined;
  }) {
    this.name = options.name;
    this.id = options.id;
    this.log = options.log;
    this.signal = options.signal ?? neverAborted;
    this.deadlineMs = options.deadlineMs;
    this.#onStage = options.onStage;
  }

  /** A Call for an operation that others may join: the same id, log and stage listener, but no caller's signal and deadline. */
  asOperation(name: string): Call {
    return new Call({ name, id: this.id, log: this.log, onStage: this.#onStage });
  }

  /** Enters a stage; the names are those CRI-O puts into `resources_stalled_at_stage`. `waitsFor`: what is known to hold it up. */
  stage(name: string, waitsFor?: string): void {
    this.#stage = name;
    this.#waitsFor = waitsFor;
    this.#stageSinceMs = performance.now();
    this.#onStage?.(this, name);
  }

  get currentStage(): { readonly name: string; readonly sinceMs: number; readonly waitsFor: string | undefined } {
    return { name: this.#stage, sinceMs: this.#stageSinceMs, waitsFor: this.#waitsFor };
  }

  /** Milliseconds left until the caller's deadline; undefined without one. */
  remainingMs(): number | undefined {
    return this.deadlineMs === undefined ? undefined : Math.max(0, this.deadlineMs - performance.now());
  }

  /** Throws when nobody waits for this call any more. */
  throwIfAborted(): void {
    if (!this.signal.aborted) return;
    const reason: unknown = this.signal.reason;
    throw reason instanceof CrioError ? reason : new CrioError('canceled', `${this.name}: context canceled`);
  }
}

const neverAborted = new AbortController().signal;
