import type { Context } from './context.ts';
import type { Entry } from './store.ts';
import type { Container, ContainerState } from './container.ts';

/** Every change of a container's state goes through here, so that `version` tells lists to encode it anew. */
export function changeState(container: Container, change: Partial<ContainerState>): void {
  Object.assign(container.state, change);
  container.version += 1;
}

/**
 * Writes state.json; writes of one container follow each other, and those asked for while one waits become one.
 * Never throws: the truth is in memory and in the kernel, so a full disk must not fail a stop. It is logged.
 */
export function saveState(context: Context, entry: Entry): Promise<void> {
  const previous = entry.saved;
  const write = async () => {
    await previous;
    // A later request writes what this one would have.
    if (entry.saved !== mine || entry.removal !== undefined) return;
    try {
      await context.writeState(entry.container);
    } catch (error) {
      context.log.error('save container state', error);
    }
  };
  const mine: Promise<void> = Promise.resolve().then(write);
  entry.saved = mine;
  return mine;
}
