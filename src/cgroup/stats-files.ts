import { closeSync, openSync, readSync } from 'node:fs';
import { parseCount, parseExact, parseFlatKeyed, parseLimit } from './parse.ts';
import type { Hierarchies } from './hierarchies.ts';
import { hasCode } from '../base/errors.ts';

/** One reading of a cgroup. A value is undefined when the host has no such counter. Bytes, counts, nanoseconds. */
export interface CgroupStats {
  readonly cpuUsageNs: bigint | undefined;
  readonly memory: MemoryStats | undefined;
  readonly pids: number | undefined;
}

export interface MemoryStats {
  readonly usage: number;
  /** Infinity when there is none. */
  readonly limit: number;
  /** usage - inactive_file, never below 0 */
  readonly workingSet: number;
  readonly rss: number;
  readonly pageFaults: number;
  readonly majorPageFaults: number;
  /** v2: swap alone; v1: memory and swap together, as CRI-O reports it. Undefined without swap accounting. */
  readonly swapUsage: number | undefined;
  /** Limit of what `swapUsage` counts; Infinity when there is none. */
  readonly swapLimit: number;
}

/**
 * Reads the counters of the cgroup at `path` (below each hierarchy's mount) in one go.
 * Synchronous on purpose: a cgroup file is answered from memory in microseconds, the thread pool costs ten times that.
 * Undefined when the cgroup is gone.
 */
export function readCgroupStats(hierarchies: Hierarchies, path: string): CgroupStats | undefined {
  const stats = hierarchies.version === 'v2' ? readV2(hierarchies, path) : readV1(hierarchies, path);
  return stats.cpuUsageNs === undefined && stats.memory === undefined && stats.pids === undefined ? undefined : stats;
}

function readV1(hierarchies: Hierarchies, path: string): CgroupStats {
  const file = (controller: string, name: string) => {
    const root = hierarchies.controllers.get(controller);
    return root === undefined ? undefined : readSmallFile(`${root}${path}/${name}`);
  };
  return {
    cpuUsageNs: parseExact(file('cpuacct', 'cpuacct.usage') ?? ''),
    memory: memoryV1(
      file('memory', 'memory.usage_in_bytes'),
      file('memory', 'memory.stat'),
      file('memory', 'memory.memsw.usage_in_bytes'),
    ),
    pids: parseCount(file('pids', 'pids.current') ?? ''),
  };
}

/** Limits come from memory.stat's `hierarchical_*` lines: they hold the smallest limit on the way up. */
function memoryV1(usageText: string | undefined, statText: string | undefined, swapText: string | undefined) {
  const usage = parseCount(usageText ?? '');
  if (usage === undefined) return undefined;
  const stat = parseFlatKeyed(statText ?? '');
  return {
    usage,
    limit: parseLimit(String(stat.get('hierarchical_memory_limit') ?? 'max')) ?? Infinity,
    workingSet: Math.max(0, usage - (stat.get('total_inactive_file') ?? 0)),
    rss: stat.get('total_rss') ?? 0,
    pageFaults: stat.get('total_pgfault') ?? 0,
    majorPageFaults: stat.get('total_pgmajfault') ?? 0,
    swapUsage: parseCount(swapText ?? ''),
    swapLimit: parseLimit(String(stat.get('hierarchical_memsw_limit') ?? 'max')) ?? Infinity,
  };
}

function readV2(hierarchies: Hierarchies, path: string): CgroupStats {
  const directory = `${hierarchies.unified}${path}`;
  const usec = parseFlatKeyed(readSmallFile(`${directory}/cpu.stat`) ?? '').get('usage_usec');
  return {
    cpuUsageNs: usec === undefined ? undefined : BigInt(usec) * 1000n,
    memory: memoryV2(directory),
    pids: parseCount(readSmallFile(`${directory}/pids.current`) ?? ''),
  };
}

function memoryV2(directory: string): MemoryStats | undefined {
  const usage = parseCount(readSmallFile(`${directory}/memory.current`) ?? '');
  if (usage === undefined) return undefined;
  const stat = parseFlatKeyed(readSmallFile(`${directory}/memory.stat`) ?? '');
  return {
    usage,
    limit: parseLimit(readSmallFile(`${directory}/memory.max`) ?? 'max') ?? Infinity,
    workingSet: Math.max(0, usage - (stat.get('inactive_file') ?? 0)),
    rss: stat.get('anon') ?? 0,
    pageFaults: stat.get('pgfault') ?? 0,
    majorPageFaults: stat.get('pgmajfault') ?? 0,
    swapUsage: parseCount(readSmallFile(`${directory}/memory.swap.current`) ?? ''),
    swapLimit: parseLimit(readSmallFile(`${directory}/memory.swap.max`) ?? 'max') ?? Infinity,
  };
}

/** Longest cgroup file that is read; memory.stat of a v2 kernel is about 2 KiB. */
const buffer = Buffer.alloc(64 * 1024);

/** Text of a small file in one read; undefined when it, its cgroup, or what it counts is not there. */
export function readSmallFile(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENODEV', 'ENOTDIR')) return undefined;
    throw error;
  }
  try {
    return buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, 0));
  } catch (error) {
    // The cgroup was removed between open and read.
    if (hasCode(error, 'ENODEV', 'EOPNOTSUPP')) return undefined;
    throw error;
  } finally {
    closeSync(fd);
  }
}
