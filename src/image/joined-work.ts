import { CrioError } from '../base/errors.ts';

interface Entry<T> {
  readonly controller: AbortController;
  readonly result: Promise<T>;
  waiters: number;
  /** Runs while nobody waits. */
  ending?: NodeJS.Timeout;
}

/**
 * Work that several may wait for. It is started once per key, and goes on as long as anybody waits: a waiter that
 * leaves ends its own waiting only. When the last one has left, it is ended after `graceMs`, unless somebody comes.
 */
export class JoinedWork<T> {
  readonly #entries = new Map<string, Entry<T>>();
  readonly #graceMs: number;

  constructor(options: { readonly graceMs: number }) {
    this.#graceMs = options.graceMs;
  }

  /** `isOwner`: this caller's `work` runs, not that of an earlier one. */
  join(
    key: string,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): { readonly isOwner: boolean; readonly result: Promise<T> } {
    const running = this.#entries.get(key);
    const entry = running === undefined || running.controller.signal.aborted ? this.#start(key, work) : running;
    return { isOwner: entry !== running, result: this.#wait(key, entry, signal) };
  }

  /** Ends all work and waits until it has ended. */
  async abortAll(reason: CrioError): Promise<void> {
    const entries = [...this.#entries.values()];
    for (const entry of entries) entry.controller.abort(reason);
    await Promise.allSettled(entries.map((entry) => entry.result));
  }

  get size(): number {
    return this.#entries.size;
  }

  #start(key: string, work: (signal: AbortSignal) => Promise<T>): Entry<T> {
    const controller = new AbortController();
    const entry: Entry<T> = { controller, result: work(controller.signal), waiters: 0 };
    this.#entries.set(key, entry);
    const forget = () => {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
    };
    entry.result.then(forget, forget);
    return entry;
  }

  #wait(key: string, entry: Entry<T>, signal: AbortSignal): Promise<T> {
    entry.waiters += 1;
    clearTimeout(entry.ending);
    return new Promise((resolve, reject) => {
      const leave = () => {
        entry.waiters -= 1;
        if (entry.waiters === 0) this.#endSoon(key, entry);
        const reason: unknown = signal.reason;
        reject(reason instanceof CrioError ? reason : new CrioError('canceled', 'context canceled'));
      };
      if (signal.aborted) {
        leave();
        return;
      }
      signal.addEventListener('abort', leave, { once: true });
      entry.result.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
    });
  }

  #endSoon(key: string, entry: Entry<T>): void {
    const end = () => {
      if (this.#entries.get(key) !== entry) return;
      entry.controller.abort(new CrioError('canceled', 'context canceled: nobody waits for it any more'));
    };
    if (this.#graceMs === 0) end();
    else entry.ending = setTimeout(end, this.#graceMs).unref();
  }
}
