import type { LinuxResources } from '../pod/config.ts';
import type { Spec } from '../runtime/spec/oci.ts';

/** The resources a status shows: what the spec says, zero for what it leaves out. */
export function resourcesOf(spec: Spec): LinuxResources {
  const { memory, cpu, hugepageLimits, unified } = spec.linux?.resources ?? {};
  return {
    cpuPeriod: cpu?.period ?? 0,
    cpuQuota: cpu?.quota ?? 0,
    cpuShares: cpu?.shares ?? 0,
    memoryLimitBytes: memory?.limit ?? 0,
    oomScoreAdj: spec.process?.oomScoreAdj ?? 0,
    cpusetCpus: cpu?.cpus ?? '',
    cpusetMems: cpu?.mems ?? '',
    hugepageLimits: (hugepageLimits ?? []).map(({ pageSize, limit }) => ({ pageSize, limit: BigInt(limit) })),
    unified: new Map(Object.entries(unified ?? {})),
    memorySwapLimitBytes: memory?.swap ?? 0,
  };
}
