const usualPatienceMs = 10_000;

/**
 * Lets at most `limit` pieces of work run at once; the others wait in order of arrival. Work that takes longer than
 * `patienceMs` goes on, but no longer counts: what hangs must not keep the others from their turn.
 */
export class Limiter {
  readonly #limit: number;
  readonly #patienceMs: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(limit: number, patienceMs = usualPatienceMs) {
    this.#limit = limit;
    this.#patienceMs = patienceMs;
  }

  /** Rejects with the signal's reason when it is aborted before the work began. */
  async run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    using _place = await this.hold(signal);
    return await work();
  }

  /** A place, until it is disposed of. Rejects as `run` does. */
  async hold(signal: AbortSignal): Promise<Disposable> {
    await this.#enter(signal);
    let isHeld = true;
    const leave = () => {
      clearTimeout(timer);
      if (isHeld) this.#leave();
      isHeld = false;
    };
    const timer = setTimeout(leave, this.#patienceMs);
    return { [Symbol.dispose]: leave };
  }

  #enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#running < this.#limit) {
      this.#running++;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const proceed = () => {
        signal.removeEventListener('abort', giveUp);
        resolve();
      };
      const giveUp = () => {
        this.#waiting.splice(this.#waiting.indexOf(proceed), 1);
        reject(signal.reason);
      };
      signal.addEventListener('abort', giveUp, { once: true });
      this.#waiting.push(proceed);
    });
  }

  /** A waiting one takes over the place, so nobody can come in between. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next();
  }
}
