/** Counts who works with what: something is free when its last holder has given it back. */
export class Holders {
  readonly #counts = new Map<string, number>();
  readonly #onFree: (id: string) => void;

  constructor(onFree: (id: string) => void = () => {}) {
    this.#onFree = onFree;
  }

  /** Giving back twice is harmless. */
  hold(ids: readonly string[]): Disposable {
    for (const id of ids) this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) for (const id of ids) this.#giveBack(id);
        isHeld = false;
      },
    };
  }

  has(id: string): boolean {
    return this.#counts.has(id);
  }

  all(): readonly string[] {
    return [...this.#counts.keys()];
  }

  #giveBack(id: string): void {
    const left = (this.#counts.get(id) ?? 1) - 1;
    if (left > 0) {
      this.#counts.set(id, left);
      return;
    }
    this.#counts.delete(id);
    this.#onFree(id);
  }
}
