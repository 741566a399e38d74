import { readFileSync } from 'node:fs';
import { systemClock, type Clock } from '../base/clock.ts';
import { CrioError, hasCode } from '../base/errors.ts';
import type { PodId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import type { Cgroups } from '../cgroup/cgroups.ts';
import { parentPath, resolveCgroupsPath } from '../cgroup/path.ts';
import type { CgroupStats } from '../cgroup/stats-files.ts';
import type { Container } from '../container/container.ts';
import type { Pod } from '../pod/pod.ts';
import { inNamespace } from '../sys/namespace.ts';
import { CpuRates } from './cpu-rates.ts';
import { LayerUsage } from './layer-usage.ts';
import { parseNetDev } from './net-dev.ts';
import type {
  ContainerStats,
  CpuUsage,
  FilesystemUsage,
  MemoryUsage,
  NetworkUsage,
  PodStats,
  Stats,
  SwapUsage,
} from './stats.ts';

export interface StatsDeps {
  readonly cgroups: Cgroups;
  readonly containersOf: (podId: PodId) => readonly Container[];
  /** Upper directory of a container's writable layer; undefined when the driver has none. */
  readonly upperDirectory: (containerId: string) => string | undefined;
  /** `crio.stats.collection_period`, seconds; an answer may be this old. 0: each call reads anew. */
  readonly collectionPeriod: number;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** The interface that CNI gives a pod. */
const podInterface = 'eth0';
/** Containers read before others get their turn: about 2 ms. */
const batch = 20;
/** How long a first answer waits for the layers to be walked. */
const firstWalkMs = 50;

interface Context extends Required<StatsDeps> {
  readonly rates: CpuRates;
  readonly layers: LayerUsage;
  /** Last answers, while `collectionPeriod` lets them be given again. */
  readonly answers: WeakMap<Container, { readonly atMs: number; readonly stats: ContainerStats }>;
}

export function createStats(deps: StatsDeps): Stats {
  const clock = deps.clock ?? systemClock;
  const context: Context = {
    ...deps,
    clock,
    rates: new CpuRates(),
    layers: new LayerUsage({ clock, log: deps.log }),
    answers: new WeakMap(),
  };
  return {
    ofContainers: (containers) => statsOfContainers(context, containers),
    ofPods: (pods) => statsOfPods(context, pods),
    ofWritableLayers(containers) {
      const layers = containers.map((container) => writableLayer(context, container));
      const sum = (value: (layer: FilesystemUsage) => number) =>
        layers.reduce((total, layer) => total + (layer === undefined ? 0 : value(layer)), 0);
      return { usedBytes: sum(({ usedBytes }) => usedBytes), inodesUsed: sum(({ inodesUsed }) => inodesUsed) };
    },
  };
}

async function statsOfContainers(context: Context, containers: readonly Container[]): Promise<ContainerStats[]> {
  await waitForFirstWalk(context, containers);
  return readContainers(context, containers);
}

async function readContainers(context: Context, containers: readonly Container[]): Promise<ContainerStats[]> {
  const found: ContainerStats[] = [];
  let read = 0;
  for (const container of containers) {
    const stats = statsOfContainer(context, container);
    if (stats !== undefined) found.push(stats);
    read += 1;
    if (read % batch === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return found;
}

/** Only for what has never been walked: otherwise the last sample is the answer. */
async function waitForFirstWalk(context: Context, containers: readonly Container[]): Promise<void> {
  // All are asked for now, so that one wait is for all.
  const unwalked = containers.filter((container) => isUp(container) && isUnwalked(context, container));
  if (unwalked.length === 0) return;
  const limit = new AbortController();
  await Promise.race([context.layers.settled(), context.clock.sleep(firstWalkMs, limit.signal).catch(() => {})]);
  limit.abort(new CrioError('canceled', 'no longer waited for'));
}

function isUnwalked({ layers, upperDirectory }: Context, container: Container): boolean {
  const directory = upperDirectory(container.id);
  return directory !== undefined && layers.get(container, directory) === undefined;
}

function isUp({ state }: Container): boolean {
  return state.status !== 'stopped' && state.status !== 'unknown';
}

/** Undefined for a container that has ended. */
function statsOfContainer(context: Context, container: Container): ContainerStats | undefined {
  const { cgroups, clock, answers, collectionPeriod } = context;
  const cgroupsPath = container.spec.linux?.cgroupsPath;
  if (!isUp(container) || cgroupsPath === undefined) return undefined;
  const atMs = clock.monotonicMs();
  const last = answers.get(container);
  if (last !== undefined && atMs - last.atMs < collectionPeriod * 1000) return last.stats;
  const reading = cgroups.readStats(resolveCgroupsPath(cgroupsPath));
  if (reading === undefined) return undefined;
  const timestampNs = clock.nowNs();
  const stats = {
    container,
    cpu: cpuUsage(context, container, reading, timestampNs),
    memory: memoryUsage(reading, timestampNs),
    swap: swapUsage(reading, timestampNs),
    writableLayer: writableLayer(context, container),
  };
  if (collectionPeriod > 0) answers.set(container, { atMs, stats });
  return stats;
}

function cpuUsage(context: Context, owner: object, reading: CgroupStats, timestampNs: bigint): CpuUsage | undefined {
  const usage = reading.cpuUsageNs;
  if (usage === undefined) return undefined;
  return { timestampNs, usageCoreNanoSeconds: usage, usageNanoCores: context.rates.update(owner, timestampNs, usage) };
}

function memoryUsage({ memory }: CgroupStats, timestampNs: bigint): MemoryUsage | undefined {
  if (memory === undefined) return undefined;
  return {
    timestampNs,
    workingSetBytes: memory.workingSet,
    availableBytes: available(memory.limit, memory.workingSet),
    usageBytes: memory.usage,
    rssBytes: memory.rss,
    pageFaults: memory.pageFaults,
    majorPageFaults: memory.majorPageFaults,
  };
}

function swapUsage({ memory }: CgroupStats, timestampNs: bigint): SwapUsage | undefined {
  if (memory?.swapUsage === undefined) return undefined;
  return { timestampNs, availableBytes: available(memory.swapLimit, memory.swapUsage), usageBytes: memory.swapUsage };
}

/** 0 stands for "no limit": the protocol has no other word for it. */
function available(limit: number, used: number): number {
  return limit === Infinity ? 0 : Math.max(0, limit - used);
}

function writableLayer({ layers, upperDirectory }: Context, container: Container): FilesystemUsage | undefined {
  const directory = upperDirectory(container.id);
  const sample = directory === undefined ? undefined : layers.get(container, directory);
  if (sample === undefined) return undefined;
  const { timestampNs, bytes, inodes } = sample;
  return { timestampNs, mountPoint: container.mountPoint, usedBytes: bytes, inodesUsed: inodes };
}

async function statsOfPods(context: Context, pods: readonly Pod[]): Promise<PodStats[]> {
  const found: PodStats[] = [];
  const ready = pods.filter(({ isReady }) => isReady);
  await waitForFirstWalk(
    context,
    ready.flatMap(({ id }) => context.containersOf(id)),
  );
  for (const pod of ready) {
    const containers = await readContainers(context, context.containersOf(pod.id));
    found.push({ pod, ...podUsage(context, pod, containers), containers });
  }
  return found;
}

/** From the pod's own cgroup; a pod without one shares the default parent, so its containers are added up. */
function podUsage(context: Context, pod: Pod, containers: readonly ContainerStats[]) {
  const { cgroups, clock } = context;
  const reading =
    pod.cgroupParent === '' ? undefined : cgroups.readStats(parentPath(cgroups.manager, pod.cgroupParent));
  const timestampNs = clock.nowNs();
  const network = networkUsage(context, pod, timestampNs);
  if (reading !== undefined) {
    return {
      cpu: cpuUsage(context, pod, reading, timestampNs),
      memory: memoryUsage(reading, timestampNs),
      process: reading.pids === undefined ? undefined : { timestampNs, count: reading.pids },
      network,
    };
  }
  return {
    cpu: sumOfCpu(context, pod, containers, timestampNs),
    memory: sumOfMemory(containers, timestampNs),
    process: { timestampNs, count: containers.reduce((sum, { container }) => sum + pidsOf(context, container), 0) },
    network,
  };
}

function pidsOf({ cgroups }: Context, { spec }: Container): number {
  const path = spec.linux?.cgroupsPath;
  return path === undefined ? 0 : (cgroups.readStats(resolveCgroupsPath(path))?.pids ?? 0);
}

function sumOfCpu(context: Context, pod: Pod, containers: readonly ContainerStats[], timestampNs: bigint): CpuUsage {
  const usage = containers.reduce((sum, { cpu }) => sum + (cpu?.usageCoreNanoSeconds ?? 0n), 0n);
  return { timestampNs, usageCoreNanoSeconds: usage, usageNanoCores: context.rates.update(pod, timestampNs, usage) };
}

function sumOfMemory(containers: readonly ContainerStats[], timestampNs: bigint): MemoryUsage {
  const sum = (of: (memory: MemoryUsage) => number) =>
    containers.reduce((total, { memory }) => total + (memory === undefined ? 0 : of(memory)), 0);
  return {
    timestampNs,
    workingSetBytes: sum((memory) => memory.workingSetBytes),
    availableBytes: 0,
    usageBytes: sum((memory) => memory.usageBytes),
    rssBytes: sum((memory) => memory.rssBytes),
    pageFaults: sum((memory) => memory.pageFaults),
    majorPageFaults: sum((memory) => memory.majorPageFaults),
  };
}

/** Counters of the pod's network namespace: through a process that lives in it, else by entering it. */
function networkUsage(context: Context, pod: Pod, timestampNs: bigint): NetworkUsage | undefined {
  const text = readNetDev(context, pod);
  if (text === undefined) return undefined;
  const all = parseNetDev(text);
  const isDefault = all.find(({ name }) => name === podInterface) ?? all.find(({ name }) => name !== 'lo');
  return { timestampNs, defaultInterface: isDefault, interfaces: all.filter((one) => one !== isDefault) };
}

function readNetDev({ containersOf, log }: Context, pod: Pod): string | undefined {
  const pid = containersOf(pod.id).find(isUp)?.state.init?.pid ?? pod.infra?.pid;
  const path = pod.namespacePaths.get('network');
  try {
    if (pid !== undefined) return readFileSync(`/proc/${pid}/net/dev`, 'latin1');
    if (path === undefined) return undefined;
    return inNamespace(path, 'network', () => readFileSync('/proc/thread-self/net/dev', 'latin1'));
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ESRCH', 'EINVAL'))
      log.debug(() => `read network counters of pod ${pod.id}: ${String(error)}`);
    return undefined;
  }
}
