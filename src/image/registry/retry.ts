import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, messageOf, wrap } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import type { Endpoint } from './endpoint.ts';
import { RegistryError } from './registry-error.ts';

interface RetryOptions {
  readonly endpoint: Endpoint;
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** All pauses of several requests together, ms; counted down here. */
  readonly budget?: { leftMs: number };
}

/**
 * Asks a server again after failures that another try may not have, as often as its limits say. `Retry-After` is kept
 * (RFC 9110, section 10.2.3); rejects when it names more than the limits allow, or than what is left of `budget`.
 */
export async function withRetries<T>(
  { endpoint, signal, log, budget }: RetryOptions,
  ask: () => Promise<T>,
): Promise<T> {
  const { attempts, backoffMs, maxRetryAfterMs } = endpoint.limits;
  for (let attempt = 1; ; attempt += 1) {
    // Doubles, with up to a half of chance in it so that many nodes do not come back at once.
    let pauseMs = backoffMs * 2 ** (attempt - 1) * (1 + Math.random() / 2);
    try {
      return await ask();
    } catch (error) {
      if (signal.aborted || attempt >= attempts || !isPassing(error)) throw error;
      if (error instanceof RegistryError && error.retryAfterMs !== undefined) {
        if (error.retryAfterMs > maxRetryAfterMs) {
          throw wrap(`asks to wait ${Math.ceil(error.retryAfterMs / 1000)} s`, error);
        }
        pauseMs = Math.max(pauseMs, error.retryAfterMs);
      }
      if (budget !== undefined && pauseMs > budget.leftMs) throw error;
      log.debug(() => `${endpoint.label}: ${messageOf(error)}; next try in ${Math.round(pauseMs)} ms`);
    }
    if (budget !== undefined) budget.leftMs -= pauseMs;
    await sleep(pauseMs, undefined, { signal });
  }
}

/** Failures that another try may not have. */
export function isPassing(error: unknown): boolean {
  // Some registries say it with 403 or 404, and mean it the same.
  if (error instanceof RegistryError)
    return error.status === 429 || error.status >= 500 || /^too_?many_?requests$/i.test(error.code);
  return hasCode(error, 'ECONNRESET', 'EPIPE', 'EAI_AGAIN', 'ECONNABORTED');
}
