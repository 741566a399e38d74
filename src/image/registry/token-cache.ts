import type { Clock } from '../../base/clock.ts';

interface Entry {
  readonly token: string;
  readonly untilMs: number;
}

const maxEntries = 1000;

/** Bearer tokens by who asked and for what; in memory only. */
export class TokenCache {
  readonly #entries = new Map<string, Entry>();
  readonly #clock: Pick<Clock, 'monotonicMs'>;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  get(key: string): string | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.untilMs <= this.#clock.monotonicMs()) return undefined;
    return entry.token;
  }

  set(key: string, token: string, lifetimeMs: number): void {
    if (this.#entries.size >= maxEntries) this.#entries.clear();
    this.#entries.set(key, { token, untilMs: this.#clock.monotonicMs() + lifetimeMs });
  }

  /** Forgets this token; a newer one with the same key stays. */
  drop(key: string, token: string): void {
    if (this.#entries.get(key)?.token === token) this.#entries.delete(key);
  }
}
