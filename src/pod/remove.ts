import type { Call } from '../base/call.ts';
import type { Context } from './context.ts';
import { deleteInfra } from './infra.ts';
import { unpinPodNamespaces } from './namespaces.ts';
import type { Pod } from './pod.ts';
import { resolveCgroupsPath } from '../cgroup/path.ts';
import { cgroupsPath } from '../runtime/spec/cgroups-path.ts';
import { refuseUnfinished, stopLocked } from './stop.ts';
import { unmountShm } from './shm.ts';

/** Removes a pod with its containers, running or not; unknown is success. The log folder stays. */
export async function removePod(context: Context, call: Call, id: string): Promise<void> {
  refuseUnfinished(context, id, `sandbox ${id} is not yet created`);
  const pod = context.index.find(id);
  if (pod === undefined) return;
  await context.locks.run(pod.id, () => removeLocked(context, call, pod));
}

/** The pod's lock is held, or nobody else knows the pod. */
export async function removeLocked(context: Context, call: Call, pod: Pod): Promise<void> {
  // Another caller was first.
  if (context.index.get(pod.id) !== pod) return;
  await stopLocked(context, call, pod);
  for (const container of context.containersOf(pod.id)) await context.removeContainer(call, container.id);
  await Promise.all([deleteInfra(context, call, pod), removeInfraCgroup(context, pod), unmountOwnShm(pod)]);
  unpinPodNamespaces(pod.namespacePaths.values());
  await context.store.containers.delete(pod.id);
  context.index.remove(pod);
  call.log.info(() => `Removed pod sandbox: ${pod.id}`);
}

async function removeInfraCgroup(context: Context, pod: Pod): Promise<void> {
  const path = infraCgroupOf(context, pod);
  if (path !== undefined) await context.cgroups.removeCgroup(path);
}

/** Undefined when there is an infra container (the runtime removes its cgroup) or none was made. */
function infraCgroupOf(context: Context, pod: Pod): string | undefined {
  const { manager } = context.cgroups;
  if (!pod.infraDropped || (pod.cgroupParent === '' && manager === 'systemd')) return undefined;
  return resolveCgroupsPath(cgroupsPath({ manager, parent: pod.cgroupParent, id: pod.id }));
}

async function unmountOwnShm(pod: Pod): Promise<void> {
  if (pod.shmPath.startsWith(`${pod.runDirectory}/`)) await unmountShm(pod.shmPath);
}
