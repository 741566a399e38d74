import { CrioError } from './errors.ts';
import type { Call } from './call.ts';

interface Operation<T> {
  readonly call: Call;
  readonly result: Promise<T>;
  waiters: number;
  isDone: boolean;
  /** Set when the result is there and nobody waits for it. */
  keeping: NodeJS.Timeout | undefined;
  /** Set while the result is undone: from then on nobody can join. */
  undoing: Promise<void> | undefined;
}

/**
 * Operations that outlive the request that started them, keyed by name.
 *
 * A second request for the same name joins the running one and gets its result. A caller's deadline or disconnect
 * detaches that waiter only; the operation goes on, and its result waits for the next request for `keepResultMs`.
 * When nobody has taken it by then, `takeBack` undoes it.
 */
export class Operations<T> {
  readonly #running = new Map<string, Operation<T>>();
  readonly #keepResultMs: number;
  readonly #takeBack: (result: T) => Promise<void>;
  readonly #onJoin: ((running: Call) => void) | undefined;

  constructor(options: {
    keepResultMs: number;
    takeBack: (result: T) => Promise<void>;
    /** Told of an operation that a second request found unfinished. */
    onJoin?: (running: Call) => void;
  }) {
    this.#keepResultMs = options.keepResultMs;
    this.#takeBack = options.takeBack;
    this.#onJoin = options.onJoin;
  }

  /**
   * Joins the operation `name`, or starts it with `start`. `operationCall` makes the Call of a new operation; the
   * signal of `caller` only ends the waiting.
   */
  async joinOrStart(
    name: string,
    caller: Call,
    start: { call: () => Call; run: (call: Call) => Promise<T> },
  ): Promise<T> {
    const running = this.#running.get(name);
    if (running?.isDone === false) this.#onJoin?.(running.call);
    let operation = running ?? this.#start(name, start);
    while (operation.undoing !== undefined) {
      await operation.undoing;
      operation = this.#running.get(name) ?? this.#start(name, start);
    }
    operation.waiters += 1;
    clearTimeout(operation.keeping);
    try {
      const result = await waitFor(operation, caller, name);
      // Taken: a later request with this name starts anew.
      if (this.#running.get(name) === operation) this.#running.delete(name);
      return result;
    } finally {
      operation.waiters -= 1;
      this.#keepUntaken(name, operation);
    }
  }

  /** The Call of the operation with this name, while it runs or its result waits. */
  running(name: string): Call | undefined {
    return this.#running.get(name)?.call;
  }

  /** The calls of all operations that have not ended. */
  *calls(): Iterable<Call> {
    for (const operation of this.#running.values()) yield operation.call;
  }

  #start(name: string, start: { call: () => Call; run: (call: Call) => Promise<T> }): Operation<T> {
    const call = start.call();
    const operation: Operation<T> = {
      call,
      result: start.run(call),
      waiters: 0,
      isDone: false,
      keeping: undefined,
      undoing: undefined,
    };
    this.#running.set(name, operation);
    operation.result.then(
      () => {
        operation.isDone = true;
        this.#keepUntaken(name, operation);
      },
      () => this.#running.delete(name),
    );
    return operation;
  }

  /** A result that nobody waits for is kept for a while and then undone. Called when it is there, and when a waiter goes. */
  #keepUntaken(name: string, operation: Operation<T>): void {
    if (!operation.isDone || operation.waiters > 0 || this.#running.get(name) !== operation) return;
    clearTimeout(operation.keeping);
    operation.keeping = setTimeout(() => {
      operation.undoing = this.#undo(name, operation);
    }, this.#keepResultMs);
    operation.keeping.unref();
  }

  async #undo(name: string, operation: Operation<T>): Promise<void> {
    try {
      await this.#takeBack(await operation.result);
    } catch (error) {
      operation.call.log.error(`take back "${name}"`, error);
    } finally {
      if (this.#running.get(name) === operation) this.#running.delete(name);
    }
  }
}

/** Waits for the result, or until the caller is gone; the error names the stage that the operation is at. */
function waitFor<T>(operation: Operation<T>, caller: Call, name: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      const { name: stage, sinceMs, waitsFor } = operation.call.currentStage;
      const seconds = ((performance.now() - sinceMs) / 1000).toFixed(1);
      const why = waitsFor === undefined ? '' : ` (${waitsFor})`;
      reject(
        new CrioError(
          'deadline',
          `${name}: still being created, at stage "${stage}" for ${seconds} s${why}; the next request for this name joins it`,
        ),
      );
    };
    if (caller.signal.aborted) {
      onAbort();
      return;
    }
    caller.signal.addEventListener('abort', onAbort, { once: true });
    operation.result.then(resolve, reject).finally(() => caller.signal.removeEventListener('abort', onAbort));
  });
}
