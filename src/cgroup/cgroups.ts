import { readFileSync, readdirSync, type Dirent } from 'node:fs';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { hasCode, wrap } from '../base/errors.ts';
import { systemClock, type Clock } from '../base/clock.ts';
import { readHierarchies, type CgroupVersion, type Hierarchies } from './hierarchies.ts';
import { parseLimit, parseProcs } from './parse.ts';
import type { CgroupManager } from './path.ts';
import { readCgroupStats, readSmallFile, type CgroupStats } from './stats-files.ts';

/**
 * The cgroups of this host. Every `path` is a directory below the mount of each hierarchy, such as
 * `/kubepods/burstable/pod1`; `path.ts` makes one from a CRI cgroup parent or from a spec's `cgroupsPath`.
 */
export interface Cgroups {
  readonly version: CgroupVersion;
  readonly manager: CgroupManager;
  readonly hierarchies: Hierarchies;
  /** True when containers can be given limits of this controller (`memory`, `cpu`, `pids`, `hugetlb` ...). */
  hasController(name: string): boolean;
  /** True when memory and swap can be limited together (the host has the swap file). */
  readonly hasSwapAccounting: boolean;
  /** Makes the cgroup in every hierarchy, with its parents; one that is there already is success. */
  createCgroup(path: string): Promise<void>;
  /**
   * Removes the cgroup and those below it from every hierarchy; one that is not there is success.
   * Busy ones (a process that is just dying) are tried again for `retryMs` (default 1000), then EBUSY is thrown.
   */
  removeCgroup(path: string, options?: { retryMs?: number }): Promise<void>;
  /** Bytes; Infinity without a limit; undefined when the cgroup or the controller is not there. */
  readMemoryLimit(path: string): Promise<number | undefined>;
  /** Bytes in use; undefined when the cgroup or the controller is not there. */
  readMemoryUsage(path: string): number | undefined;
  readStats(path: string): CgroupStats | undefined;
  /** Whether the cgroup is there in the hierarchy that holds the processes. */
  exists(path: string): boolean;
  /** Pids of every process in the cgroup and below; none when it is not there. */
  processes(path: string): number[];
  /** Sends SIGKILL to every process in the cgroup and below, until none is left or 1 s has passed. */
  killAll(path: string): Promise<void>;
}

export interface CgroupsOptions {
  readonly manager: CgroupManager;
  /** Where the hierarchies are; read from this mount namespace by default. */
  readonly hierarchies?: Hierarchies;
  readonly clock?: Clock;
}

export function openCgroups(options: CgroupsOptions): Cgroups {
  const hierarchies = options.hierarchies ?? readHierarchies();
  const clock = options.clock ?? systemClock;
  const memoryRoot = hierarchies.controllers.get('memory');
  const isV2 = hierarchies.version === 'v2';
  const limitFile = isV2 ? 'memory.max' : 'memory.limit_in_bytes';
  const usageFile = isV2 ? 'memory.current' : 'memory.usage_in_bytes';
  return {
    version: hierarchies.version,
    manager: options.manager,
    hierarchies,
    hasController: (name) => hierarchies.controllers.has(name),
    hasSwapAccounting: hasSwapAccounting(hierarchies),
    createCgroup: (path) => createEverywhere(hierarchies, path),
    removeCgroup: (path, { retryMs = 1000 } = {}) => removeEverywhere(hierarchies, path, { clock, retryMs }),
    async readMemoryLimit(path) {
      const text = memoryRoot === undefined ? undefined : readSmallFile(`${memoryRoot}${path}/${limitFile}`);
      return parseLimit(text ?? '');
    },
    readMemoryUsage(path) {
      const text = memoryRoot === undefined ? undefined : readSmallFile(`${memoryRoot}${path}/${usageFile}`);
      return parseLimit(text ?? '');
    },
    readStats: (path) => readCgroupStats(hierarchies, path),
    exists: (path) => readSmallFile(`${processRoot(hierarchies)}${path}/cgroup.procs`) !== undefined,
    processes: (path) => processesBelow(`${processRoot(hierarchies)}${path}`),
    killAll: (path) => killAll(hierarchies, path, clock),
  };
}

/** v1 shows the file at the root, v2 only below it. */
function hasSwapAccounting({ version, controllers, unified }: Hierarchies): boolean {
  if (version !== 'v2') return readSmallFile(`${controllers.get('memory')}/memory.memsw.limit_in_bytes`) !== undefined;
  const children = readdirSync(`${unified}`, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return children.some((entry) => readSmallFile(`${unified}/${entry.name}/memory.swap.max`) !== undefined);
}

/**
 * mkdir waits in the kernel while another process is moved between cgroups (10 ms and more after some quiet), so it
 * runs in the thread pool and not in the event loop.
 */
async function createEverywhere(hierarchies: Hierarchies, path: string): Promise<void> {
  const work = hierarchies.roots.map((root) => createIn(hierarchies, root, path));
  const failed = (await Promise.allSettled(work)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw wrap(`create cgroup "${path}"`, failed.reason);
}

async function createIn(hierarchies: Hierarchies, root: string, path: string): Promise<void> {
  const first = await mkdir(`${root}${path}`, { recursive: true, mode: 0o755 });
  if (first === undefined) return;
  if (hierarchies.version === 'v2') await delegateControllers(root, path);
  else if (hierarchies.controllers.get('cpuset') === root) await inheritCpuset(root, path, first);
}

/** A new v1 cpuset is empty, and no process can enter it nor get CPUs below it: it takes its parent's values. */
async function inheritCpuset(root: string, path: string, firstCreated: string): Promise<void> {
  let directory = root;
  for (const part of path.split('/').filter((name) => name !== '')) {
    const parent = directory;
    directory = `${directory}/${part}`;
    if (directory.length < firstCreated.length) continue;
    const files = ['cpuset.cpus', 'cpuset.mems'];
    await Promise.all(
      files.map(async (file) => writeFile(`${directory}/${file}`, await readFile(`${parent}/${file}`))),
    );
  }
}

/** On v2 a controller works in a cgroup only when every ancestor passes it on. */
async function delegateControllers(root: string, path: string): Promise<void> {
  let directory = root;
  for (const part of path.split('/').filter((name) => name !== '')) {
    const available = (await readFile(`${directory}/cgroup.controllers`, 'utf8')).trim();
    if (available !== '') {
      const wanted = available.split(' ').map((name) => `+${name}`);
      await writeFile(`${directory}/cgroup.subtree_control`, wanted.join(' ')).catch(ignoreRefusal);
    }
    directory = `${directory}/${part}`;
  }
}

/** A cgroup with processes of its own cannot pass domain controllers on (EBUSY); some hosts forbid it (EACCES). */
function ignoreRefusal(error: unknown): void {
  if (!hasCode(error, 'EBUSY', 'EACCES', 'EOPNOTSUPP', 'EINVAL', 'ENOENT')) throw error;
}

interface RetryOptions {
  readonly clock: Clock;
  readonly retryMs: number;
}

async function removeEverywhere(hierarchies: Hierarchies, path: string, options: RetryOptions): Promise<void> {
  if (path === '' || path === '/') throw new Error('remove cgroup "/": refused');
  const deadline = options.clock.monotonicMs() + options.retryMs;
  // All are tried, whatever happens to one.
  const work = hierarchies.roots.map((root) => removeTree(`${root}${path}`, deadline, options.clock));
  const busy = (await Promise.allSettled(work)).find(({ status }) => status === 'rejected');
  if (busy?.status === 'rejected') throw wrap(`remove cgroup "${path}"`, busy.reason);
}

async function removeTree(directory: string, deadline: number, clock: Clock): Promise<void> {
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMs * 2, 100)) {
    try {
      await rmdir(directory);
      return;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      if (!hasCode(error, 'EBUSY', 'ENOTEMPTY')) throw error;
      if (await removeChildren(directory, deadline, clock)) continue;
      if (clock.monotonicMs() >= deadline) throw error;
    }
    await clock.sleep(pauseMs);
  }
}

/** Removes what lies below; true when there was something. */
async function removeChildren(directory: string, deadline: number, clock: Clock): Promise<boolean> {
  let names: string[];
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
  for (const name of names) await removeTree(`${directory}/${name}`, deadline, clock);
  return names.length > 0;
}

/** The hierarchy that is asked for processes: every one of them is in all. */
function processRoot({ controllers, roots }: Hierarchies): string {
  return controllers.get('pids') ?? roots[0] ?? '';
}

/** One pass may miss a process that is just being forked, hence the repetition. */
async function killAll(hierarchies: Hierarchies, path: string, clock: Clock): Promise<void> {
  const root = processRoot(hierarchies);
  for (let tries = 0; tries < 10; tries += 1) {
    const pids = processesBelow(`${root}${path}`);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if (!hasCode(error, 'ESRCH')) throw error;
      }
    }
    await clock.sleep(10 * (tries + 1));
  }
}

function processesBelow(directory: string): number[] {
  let pids: number[];
  let entries: Dirent[];
  try {
    // Whole, however long it is: half a number would be another process.
    pids = parseProcs(readFileSync(`${directory}/cgroup.procs`, 'latin1'));
    entries = readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    // It was removed, or a threaded one: its processes are listed above it, cgroups(7).
    if (hasCode(error, 'ENOENT', 'ENODEV', 'ENOTDIR', 'EOPNOTSUPP')) return [];
    throw error;
  }
  for (const entry of entries) if (entry.isDirectory()) pids.push(...processesBelow(`${directory}/${entry.name}`));
  return pids;
}
