import type { ExitRecord } from '../runtime/runtime.ts';
import type { Context } from './context.ts';
import { finishState, markStopped } from './stop.ts';

/**
 * An infra container that has ended takes its pod down: the marker says so, its containers keep running until somebody
 * stops them. False when the id is no infra container's.
 */
export async function handleInfraExit(context: Context, record: ExitRecord): Promise<boolean> {
  const pod = context.index.get(record.containerId);
  if (pod === undefined || pod.infraDropped) return false;
  // A stop or removal that is under way ends it on purpose and marks the pod itself.
  await context.locks.run(pod.id, async () => {
    if (context.index.get(pod.id) !== pod) return;
    await markStopped(context, pod);
    await finishState(pod, { timeNs: record.finishedAtNs, exitCode: record.exitCode });
  });
  return true;
}
