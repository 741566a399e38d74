import type { Clock } from '../../base/clock.ts';

const firstPauseMs = 10_000;
const longestPauseMs = 300_000;

/** Remembers a dead server, so that a mirror's timeout is paid once and not for every layer of every pull. */
export class Breaker {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  #failures = 0;
  #untilMs = 0;
  #reason = '';
  #cause: unknown;
  #isNews = false;

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock;
  }

  /** Why and how long the server should be passed over; undefined when it should not. */
  get problem(): string | undefined {
    const leftMs = this.#untilMs - this.#clock.monotonicMs();
    if (leftMs <= 0) return undefined;
    return `not tried again for ${Math.ceil(leftMs / 1000)} s after: ${this.#reason}`;
  }

  /** The failure behind it, as far as there was one. */
  get cause(): unknown {
    return this.#cause;
  }

  /** True for the first who asks since the server was found dead: a log has one line for each pause. */
  takeNews(): boolean {
    const isNews = this.#isNews;
    this.#isNews = false;
    return isNews;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#untilMs = 0;
  }

  failed(reason: string, cause?: unknown): void {
    // Requests that ran side by side fail of one cause.
    if (this.problem !== undefined) return;
    this.#untilMs = this.#clock.monotonicMs() + Math.min(longestPauseMs, firstPauseMs * 2 ** this.#failures);
    this.#failures += 1;
    this.#reason = reason;
    this.#cause = cause;
    this.#isNews = true;
  }
}
