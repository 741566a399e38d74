/** Many pod operations at once, or one garbage collection alone. A waiting collection holds back new operations. */
export class ExclusiveGate {
  #running = 0;
  #exclusive: Promise<void> = Promise.resolve();
  #drained: (() => void) | undefined;

  async shared<T>(work: () => Promise<T>): Promise<T> {
    let gate: Promise<void>;
    do {
      gate = this.#exclusive;
      await gate;
    } while (gate !== this.#exclusive);
    this.#running += 1;
    try {
      return await work();
    } finally {
      this.#running -= 1;
      if (this.#running === 0) this.#drained?.();
    }
  }

  async alone<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#exclusive;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#exclusive = before.then(() => promise);
    try {
      await before;
      if (this.#running > 0) await new Promise<void>((drained) => (this.#drained = drained));
      this.#drained = undefined;
      return await work();
    } finally {
      resolve();
    }
  }
}
