import type { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import { runtimeFor, type Context } from './context.ts';
import { changeState, saveState } from './state.ts';

/** Freezes a running container. Only the HTTP API can ask for it. */
export function pauseContainer(context: Context, call: Call, idOrPrefix: string): Promise<void> {
  return change(context, call, idOrPrefix, { verb: 'pause', from: 'running', to: 'paused' });
}

export function resumeContainer(context: Context, call: Call, idOrPrefix: string): Promise<void> {
  return change(context, call, idOrPrefix, { verb: 'resume', from: 'paused', to: 'running' });
}

interface Change {
  readonly verb: 'pause' | 'resume';
  readonly from: 'running' | 'paused';
  readonly to: 'running' | 'paused';
}

async function change(context: Context, call: Call, idOrPrefix: string, { verb, from, to }: Change): Promise<void> {
  const entry = context.index.require(idOrPrefix);
  const { container } = entry;
  await context.locks.run(container.id, async () => {
    if (container.state.status !== from || entry.stop !== undefined) {
      throw new CrioError(
        'failed-precondition',
        `${verb} container "${container.id}": it is ${container.state.status}`,
      );
    }
    await runtimeFor(context, container.runtimeHandler)[verb](call, container.id);
    // It may have ended meanwhile.
    if (container.state.status === from) changeState(container, { status: to });
    await saveState(context, entry);
  });
}
