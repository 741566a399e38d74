import type { PodNetwork } from '../network/network.ts';
import type { Context } from './context.ts';
import type { PodPlan } from './plan.ts';
import { attempt } from './undo.ts';

export interface StartedNetwork {
  /** Until then the thread pool is needed for the way to the first plugin. */
  readonly started: Promise<void>;
  /** The plugins' result, before it is recorded. */
  readonly answered: Promise<PodNetwork>;
  readonly finished: Promise<PodNetwork>;
}

/** Starts CNI ADD. Whatever it comes to, a later failure takes it back before the namespaces go. */
export function startNetwork(context: Context, plan: PodPlan, undo: AsyncDisposableStack): StartedNetwork {
  const pod = {
    id: plan.id,
    name: plan.name,
    metadata: plan.config.metadata,
    annotations: plan.annotations,
    cgroupParent: plan.config.cgroupParent,
    portMappings: plan.portMappings,
    netnsPath: plan.namespacePlan.paths.get('network') ?? '',
  };
  const started = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<PodNetwork>();
  const startMs = context.clock.monotonicMs();
  const report = (part: Parameters<Context['onNetworkSetUp']>[0]) =>
    context.onNetworkSetUp(part, context.clock.monotonicMs() - startMs);
  const onResult = (result: PodNetwork) => {
    report('network_setup_pod');
    answered.resolve(result);
  };
  const finished = context.network.setUp(pod, { onStarted: started.resolve, onResult });
  undo.defer(
    attempt(context, 'remove network', async () => {
      const made = await finished.then(
        () => true,
        () => false,
      );
      if (made) await context.network.tearDown(pod);
    }),
  );
  // It may fail while nobody waits for it yet; `build` awaits it later.
  finished.then(() => report('network_setup_overall'), answered.reject).finally(started.resolve);
  answered.promise.catch(() => undefined);
  return { started: started.promise, answered: answered.promise, finished };
}
