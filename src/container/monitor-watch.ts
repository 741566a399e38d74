import type { Context } from './context.ts';
import type { Entry } from './store.ts';

const intervalMs = 10_000;
/** Looked at before others get their turn: below 1 ms. */
const batch = 50;

/**
 * Looks after the monitors of running containers, as CRI-O does: one that was killed takes logs and attach with it and
 * cannot be replaced, so somebody has to know. The container itself is watched in `exit.ts`.
 */
export function watchMonitors(context: Context): Disposable & { check(): Promise<void> } {
  const reported = new WeakSet<Entry>();
  const check = () => checkAll(context, reported);
  let isBusy = false;
  const timer = setInterval(() => {
    if (isBusy) return;
    isBusy = true;
    check()
      .catch((error: unknown) => context.log.error('look after monitors', error))
      .finally(() => (isBusy = false));
  }, intervalMs);
  timer.unref();
  return { check, [Symbol.dispose]: () => clearInterval(timer) };
}

async function checkAll(context: Context, reported: WeakSet<Entry>): Promise<void> {
  let count = 0;
  for (const entry of [...context.index.all()]) {
    count += 1;
    if (count % batch === 0) await new Promise((resolve) => setImmediate(resolve));
    if (reported.has(entry) || !isLost(context, entry)) continue;
    reported.add(entry);
    const { container } = entry;
    context.log.error(`Conmon for container ${container.id} is stopped, although the container is running`);
    context.onMonitorLost(container);
  }
}

/** The monitor goes first when both end: the container is looked at last. */
function isLost({ processes }: Context, { container, stop, removal }: Entry): boolean {
  const { status, monitor, init } = container.state;
  if (status !== 'running' || stop !== undefined || removal !== undefined) return false;
  return monitor !== undefined && init !== undefined && !processes.isAlive(monitor) && processes.isAlive(init);
}
