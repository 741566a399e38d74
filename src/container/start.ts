import type { Call } from '../base/call.ts';
import { CrioError, messageOf } from '../base/errors.ts';
import { describe, runtimeFor, type Context } from './context.ts';
import { hasEnded } from './exit.ts';
import { removeEntry } from './remove.ts';
import { changeState, saveState } from './state.ts';
import type { Entry } from './store.ts';

/**
 * Starts the program of a created container. A container that cannot be started is removed completely, so that its
 * name is free for the next attempt; the error is the runtime's.
 */
export async function startContainer(context: Context, call: Call, idOrPrefix: string): Promise<void> {
  const entry = context.index.require(idOrPrefix);
  await context.locks.run(entry.container.id, async () => {
    requireCreated(entry);
    // A start cannot be taken back half-way: it does not end with its caller.
    const ownCall = context.ownCall(call.name);
    ownCall.stage('container start');
    try {
      await runtimeFor(context, entry.container.runtimeHandler).start(ownCall, entry.container.id);
    } catch (error) {
      await discard(context, ownCall, entry, error);
      throw error;
    }
    markStarted(context, entry);
    await saveState(context, entry);
  });
}

/** The text is CRI-O's. */
function requireCreated({ container, stop, removal }: Entry): void {
  const { status } = container.state;
  if (status !== 'created') {
    throw new CrioError('unknown', `container ${container.id} is not in created state: ${status}`);
  }
  if (stop !== undefined || removal !== undefined) {
    throw new CrioError('unknown', `container ${container.id} is not in created state: it is being stopped`);
  }
}

/** A short program may have ended, and its end been recorded, before the runtime's start returned. */
function markStarted(context: Context, entry: Entry): void {
  const { container } = entry;
  const nowNs = context.clock.nowNs();
  const { finishedAtNs } = container.state;
  entry.startedMs = context.clock.monotonicMs();
  if (hasEnded(entry)) changeState(container, { startedAtNs: finishedAtNs < nowNs ? finishedAtNs : nowNs });
  else changeState(container, { status: 'running', startedAtNs: nowNs });
  const { id, podId, state } = container;
  context.log
    .with({ containerID: id, description: describe(container), sandboxID: podId, PID: String(state.init?.pid ?? 0) })
    .info('Started container');
  context.onEvent({ type: 'started', container, timeNs: nowNs });
}

async function discard(context: Context, call: Call, entry: Entry, error: unknown): Promise<void> {
  const { container } = entry;
  changeState(container, {
    startedAtNs: container.createdAtNs,
    finishedAtNs: container.createdAtNs,
    error: messageOf(error),
  });
  try {
    await removeEntry(context, call, entry);
  } catch (removeError) {
    context.log.error(`remove container ${container.id} that did not start`, removeError);
  }
}
