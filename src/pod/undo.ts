import { messageOf } from '../base/errors.ts';
import type { Context } from './context.ts';

/** An undo step: its failure is logged, the next one is done all the same. */
export function attempt(
  context: Pick<Context, 'clock' | 'log'>,
  what: string,
  step: () => Promise<void>,
): () => Promise<void> {
  return async () => {
    for (let left = undoTries; ; left -= 1) {
      try {
        await step();
        return;
      } catch (error) {
        if (left === 0) {
          context.log.error(`undo of a pod: ${what}`, error);
          return;
        }
        context.log.debug(() => `undo of a pod: ${what}, trying again: ${messageOf(error)}`);
        await context.clock.sleep(undoDelayMs);
      }
    }
  };
}

const undoTries = 5;
const undoDelayMs = 200;
