import type { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import type { LinuxResources } from '../pod/config.ts';
import type { LinuxResources as SpecResources } from '../runtime/spec/oci.ts';
import type { Container } from './container.ts';
import { runtimeFor, type Context } from './context.ts';
import { resourcesOf } from './resources.ts';
import type { Entry } from './store.ts';
import { notFound } from './store.ts';

/**
 * Changes the limits of a running or created container. Only what the request sets is sent; swap limit, huge pages and
 * oom_score_adj of a request are ignored, as by CRI-O. The new values show in the status, not in config.json.
 */
export async function updateContainer(
  context: Context,
  call: Call,
  idOrPrefix: string,
  requested: LinuxResources | undefined,
): Promise<void> {
  const entry = context.index.find(idOrPrefix);
  if (entry === undefined) throw new CrioError('unknown', notFound(idOrPrefix).message);
  await context.locks.run(entry.container.id, async () => {
    requireUpdatable(entry);
    if (requested === undefined) return;
    checkMemory(context, entry.container, requested.memoryLimitBytes);
    const resources = chooseUpdate(requested, {
      hasSwap: context.cgroups.hasSwapAccounting,
      isV2: context.cgroups.version === 'v2',
    });
    await runtimeFor(context, entry.container.runtimeHandler).update(call, entry.container.id, resources);
    mergeResources(entry.container, resources);
  });
}

function requireUpdatable({ container }: Entry): void {
  const { status } = container.state;
  if (status === 'running' || status === 'created') return;
  throw new CrioError('unknown', `container ${container.id} is not running or created state: ${status}`);
}

/** The texts are CRI-O's; the kernel would refuse a limit below what is in use, or kill for it. */
function checkMemory(context: Context, container: Container, limit: number): void {
  if (limit < 0) {
    throw new CrioError(
      'unknown',
      `memory validation failed: invalid memory limit: ${limit} bytes (cannot be negative)`,
    );
  }
  const path = context.cgroupPath(container);
  const usage = limit === 0 || path === undefined ? undefined : context.cgroups.readMemoryUsage(path);
  if (usage === undefined || limit >= usage) return;
  throw new CrioError(
    'unknown',
    `memory validation failed: cannot decrease memory limit to ${limit} bytes: current usage is ${usage} bytes`,
  );
}

/** Pure: the part of a request that `runtime update` gets. */
export function chooseUpdate(requested: LinuxResources, host: { hasSwap: boolean; isV2: boolean }): SpecResources {
  const { memoryLimitBytes, cpuShares, cpuPeriod, cpuQuota, cpusetCpus, cpusetMems, unified } = requested;
  const cpu = {
    ...(cpuShares === 0 ? {} : { shares: cpuShares }),
    ...(cpuPeriod === 0 ? {} : { period: cpuPeriod }),
    ...(cpuQuota === 0 ? {} : { quota: cpuQuota }),
    ...(cpusetCpus === '' ? {} : { cpus: cpusetCpus }),
    ...(cpusetMems === '' ? {} : { mems: cpusetMems }),
  };
  const memory = { limit: memoryLimitBytes, ...(host.hasSwap ? { swap: memoryLimitBytes } : {}) };
  return {
    ...(memoryLimitBytes === 0 ? {} : { memory }),
    ...(Object.keys(cpu).length === 0 ? {} : { cpu }),
    ...(host.isV2 && unified.size > 0 ? { unified: Object.fromEntries(unified) } : {}),
  };
}

function mergeResources(container: Container, update: SpecResources): void {
  const linux = (container.spec.linux ??= {});
  const before = linux.resources ?? {};
  linux.resources = {
    ...before,
    ...(update.memory === undefined ? {} : { memory: { ...before.memory, ...update.memory } }),
    ...(update.cpu === undefined ? {} : { cpu: { ...before.cpu, ...update.cpu } }),
    ...(update.unified === undefined ? {} : { unified: { ...before.unified, ...update.unified } }),
  };
  container.resources = resourcesOf(container.spec);
  container.version += 1;
}
