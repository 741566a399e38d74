import { writeFile } from 'node:fs/promises';
import { CrioError } from '../base/errors.ts';
import type { Context } from './context.ts';
import type { PodPlan } from './plan.ts';

/** A pod's own limit must leave room for a container. The text is CRI-O's. */
export async function checkPodMemory(context: Context, plan: PodPlan, minimumBytes: number): Promise<void> {
  if (plan.parentCgroup === undefined) return;
  const limit = await context.cgroups.readMemoryLimit(plan.parentCgroup);
  if (limit === undefined) {
    context.log.debug(() => `No memory limit to read for cgroup ${plan.parentCgroup}`);
    return;
  }
  if (limit >= minimumBytes) return;
  throw new CrioError('unknown', `pod set memory limit ${limit} too low; should be at least ${minimumBytes} bytes`);
}

/** The cgroup that stands for the infra container that is not there. */
export async function createInfraCgroup(context: Context, plan: PodPlan): Promise<void> {
  const path = plan.infraCgroup;
  if (path === undefined) return;
  await context.cgroups.createCgroup(path);
  const cpuset = context.cgroups.version === 'v2' ? undefined : context.cgroups.hierarchies.controllers.get('cpuset');
  if (cpuset === undefined) return;
  try {
    await writeFile(`${cpuset}${path}/cpuset.sched_load_balance`, '0');
  } catch (error) {
    // Not every kernel has it, and no container depends on it.
    context.log.debug(() => `switch off load balancing of ${path}: ${String(error)}`);
  }
}
