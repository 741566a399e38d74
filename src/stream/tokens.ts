import { randomBytes } from 'node:crypto';
import { CrioError } from '../base/errors.ts';

const tokenBytes = 6;
export const tokenLifetimeMs = 60_000;
export const maxTokens = 1000;

/** Tokens that stand for requests until a client comes with one: each once, and within a minute. */
export class TokenCache<T> {
  readonly #entries = new Map<string, { readonly value: T; readonly expiresMs: number }>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Throws resource-exhausted while 1000 wait. The text is the Go server's. */
  issue(value: T): string {
    this.#sweep();
    if (this.#entries.size >= maxTokens) {
      throw new CrioError('resource-exhausted', 'maximum number of in-flight requests exceeded');
    }
    const token = randomBytes(tokenBytes).toString('base64url');
    this.#entries.set(token, { value, expiresMs: this.#nowMs() + tokenLifetimeMs });
    return token;
  }

  /** Undefined for an unknown, used or expired one. */
  take(token: string): T | undefined {
    const entry = this.#entries.get(token);
    this.#entries.delete(token);
    return entry !== undefined && entry.expiresMs > this.#nowMs() ? entry.value : undefined;
  }

  /** All live equally long, so the oldest come first. */
  #sweep(): void {
    for (const [token, { expiresMs }] of this.#entries) {
      if (expiresMs > this.#nowMs()) return;
      this.#entries.delete(token);
    }
  }
}
