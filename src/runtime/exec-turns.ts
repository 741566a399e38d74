import { availableParallelism } from 'node:os';
import { Limiter } from './limiter.ts';

/**
 * Starts of commands at once: more only make each slower, and each holds descriptors and a process of the runtime. One
 * container cannot take the places of all, so that a flood of commands in one delays the probes of others by little.
 */
export const inContainer = Math.max(16, 4 * availableParallelism());
const inAll = 4 * inContainer;

const all = new Limiter(inAll);
const containers = new Map<string, { readonly limiter: Limiter; users: number }>();

/** Waits for a place to start a command; to be disposed of when the command runs. Rejects with the signal's reason. */
export async function turnToStart(signal: AbortSignal, containerId: string): Promise<Disposable> {
  const own = containers.get(containerId) ?? { limiter: new Limiter(inContainer), users: 0 };
  containers.set(containerId, own);
  own.users++;
  using turn = new DisposableStack();
  turn.defer(() => {
    if (--own.users === 0) containers.delete(containerId);
  });
  turn.use(await own.limiter.hold(signal));
  turn.use(await all.hold(signal));
  await turnOfLoop();
  signal.throwIfAborted();
  return turn.move();
}

let isTaken = false;
const waiting: (() => void)[] = [];

/**
 * One start in each turn of the event loop: posix_spawn(3) waits until the child has got a CPU and loaded its program, on a
 * busy node many milliseconds, and a dozen in a row would keep all others waiting for seconds.
 */
async function turnOfLoop(): Promise<void> {
  if (isTaken) await new Promise<void>((resolve) => waiting.push(resolve));
  else {
    isTaken = true;
    setImmediate(endTurn);
  }
}

function endTurn(): void {
  const next = waiting.shift();
  isTaken = next !== undefined;
  if (next === undefined) return;
  setImmediate(endTurn);
  next();
}
