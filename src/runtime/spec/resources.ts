import { CrioError } from '../../base/errors.ts';
import type { LinuxResources as RequestedResources } from '../../pod/config.ts';
import type { Draft } from './draft.ts';
import type { HostFacts } from './input.ts';
import type { LinuxResources } from './oci.ts';

export interface ResourceRequest {
  readonly id: string;
  readonly resources: RequestedResources;
  readonly minMemory: number;
  readonly host: HostFacts;
}

/**
 * The cgroup values of a container's request. A controller the host lacks is left out; asking for a limit that needs
 * it is an error that names it. Throws CrioError `invalid` or `failed-precondition`.
 */
export function chooseResources(request: ResourceRequest): Omit<LinuxResources, 'devices'> {
  return {
    ...memoryOf(request),
    ...cpuOf(request),
    ...hugepagesOf(request),
    ...unifiedOf(request),
  };
}

function memoryOf({ id, resources, minMemory, host }: ResourceRequest): Pick<LinuxResources, 'memory'> {
  const limit = resources.memoryLimitBytes;
  if (limit === 0) return {};
  requireController(host, 'memory', `memory limit ${limit}`);
  checkMemoryMinimum(limit, minMemory);
  if (!host.memorySwap) return { memory: { limit } };
  const swap = resources.memorySwapLimitBytes === 0 ? limit : resources.memorySwapLimitBytes;
  if (swap !== -1 && swap < limit) {
    // CRI-O's text
    const text = `container ${id} create failed because memory swap limit (${swap}) cannot be lower than memory limit (${limit})`;
    throw new CrioError('invalid', text);
  }
  return { memory: { limit, swap } };
}

/** Throws CRI-O's text when a limit is below what the runtime needs to start a process. */
export function checkMemoryMinimum(limit: number, minimum: number): void {
  if (limit >= minimum) return;
  throw new CrioError('invalid', `set memory limit ${limit} too low; should be at least ${minimum} bytes`);
}

function cpuOf({ resources, host }: ResourceRequest): Pick<LinuxResources, 'cpu'> {
  const cpu: NonNullable<LinuxResources['cpu']> = {};
  if (host.controllers.has('cpu')) {
    cpu.shares = resources.cpuShares;
    cpu.quota = resources.cpuQuota;
    cpu.period = resources.cpuPeriod;
  } else if (resources.cpuQuota > 0) {
    requireController(host, 'cpu', `cpu quota ${resources.cpuQuota}`);
  }
  const { cpusetCpus, cpusetMems } = resources;
  if (cpusetCpus !== '' || cpusetMems !== '') requireController(host, 'cpuset', `cpuset "${cpusetCpus || cpusetMems}"`);
  if (cpusetCpus !== '') cpu.cpus = cpusetCpus;
  if (cpusetMems !== '') cpu.mems = cpusetMems;
  return Object.keys(cpu).length === 0 ? {} : { cpu };
}

function hugepagesOf({ resources, host }: ResourceRequest): Pick<LinuxResources, 'hugepageLimits'> {
  const limits = resources.hugepageLimits;
  if (limits.length === 0) return {};
  if (host.controllers.has('hugetlb'))
    return { hugepageLimits: limits.map(({ pageSize, limit }) => ({ pageSize, limit: exact(limit) })) };
  // kubelet names every page size of the node with 0: without the controller there is nothing to take away
  const wanted = limits.find(({ limit }) => limit > 0n);
  if (wanted !== undefined) requireController(host, 'hugetlb', `hugepage limit ${wanted.limit} of ${wanted.pageSize}`);
  return {};
}

function unifiedOf({ resources, host }: ResourceRequest): Pick<LinuxResources, 'unified'> {
  if (!host.cgroupV2 || resources.unified.size === 0) return {};
  return { unified: Object.fromEntries(resources.unified) };
}

/** `pids.limit`. No limit is what a new cgroup has; written as -1 it makes crun 1.8.1 fail on cgroup v1. */
export function setPidsLimit(draft: Draft, limit: number, host: HostFacts): void {
  if (limit <= 0) return;
  requireController(host, 'pids', `pids limit ${limit}`);
  draft.linux.resources.pids = { limit };
}

/** Values of the unified-cgroup annotation, `key=value;...`; a value may be base64. Throws CrioError `invalid`. */
export function parseUnified(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const part of text.split(';')) {
    if (part.trim() === '') continue;
    const at = part.indexOf('=');
    const key = part.slice(0, at).trim();
    // the key becomes a file name in the container's cgroup
    if (at === -1 || !/^[a-zA-Z0-9_]+(\.[a-zA-Z0-9_-]+)+$/.test(key)) {
      throw new CrioError('invalid', `parse unified cgroup setting "${part}": key=value expected`);
    }
    values.set(key, unwrapBase64(part.slice(at + 1)));
  }
  return values;
}

function unwrapBase64(value: string): string {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(value) || value.length % 4 !== 0) return value;
  const decoded = Buffer.from(value, 'base64').toString('utf8');
  return /^[\x20-\x7e\n\t]+$/.test(decoded) ? decoded : value;
}

/** What the kernel lets this daemon give: without CAP_SYS_RESOURCE nobody goes below its own value. */
export function clampOomScoreAdj(wanted: number, host: Pick<HostFacts, 'lowestOomScoreAdj'>): number {
  return Math.min(1000, Math.max(wanted, host.lowestOomScoreAdj));
}

function requireController(host: HostFacts, controller: string, what: string): void {
  if (host.controllers.has(controller)) return;
  throw new CrioError('failed-precondition', `apply ${what}: the host has no ${controller} cgroup controller`);
}

function exact(value: bigint): number | bigint {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}
