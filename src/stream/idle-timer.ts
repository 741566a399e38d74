import { longestTimerMs } from '../base/clock.ts';

/** Calls back once when nothing has touched it for so long. */
export class IdleTimer {
  readonly #limitMs: number;
  readonly #onIdle: () => void;
  #lastMs = performance.now();
  #timer: NodeJS.Timeout | undefined;

  /** 0: never */
  constructor(limitMs: number, onIdle: () => void) {
    this.#limitMs = limitMs;
    this.#onIdle = onIdle;
    if (limitMs > 0) this.#arm(limitMs);
  }

  touch(): void {
    this.#lastMs = performance.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #arm(ms: number): void {
    const look = () => {
      const leftMs = this.#lastMs + this.#limitMs - performance.now();
      if (leftMs <= 0) this.#onIdle();
      else this.#arm(leftMs);
    };
    this.#timer = setTimeout(look, Math.min(ms, longestTimerMs));
    this.#timer.unref();
  }
}
