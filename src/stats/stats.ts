import type { Container } from '../container/container.ts';
import type { Pod } from '../pod/pod.ts';

/** What containers and pods use; a group that the host cannot tell is undefined. Answers start no program. */
export interface Stats {
  /** Those of the given containers that have not ended, in their order. */
  ofContainers(containers: readonly Container[]): Promise<readonly ContainerStats[]>;
  /** Those of the given pods that are ready, in their order. */
  ofPods(pods: readonly Pod[]): Promise<readonly PodStats[]>;
  /** What the writable layers of the given containers hold together, as far as they have been walked; ended ones too. */
  ofWritableLayers(containers: readonly Container[]): { readonly usedBytes: number; readonly inodesUsed: number };
}

export interface ContainerStats {
  readonly container: Container;
  readonly cpu: CpuUsage | undefined;
  readonly memory: MemoryUsage | undefined;
  readonly swap: SwapUsage | undefined;
  /** Undefined until the writable layer has been walked once. */
  readonly writableLayer: FilesystemUsage | undefined;
}

export interface PodStats {
  readonly pod: Pod;
  readonly cpu: CpuUsage | undefined;
  readonly memory: MemoryUsage | undefined;
  readonly network: NetworkUsage | undefined;
  readonly process: { readonly timestampNs: bigint; readonly count: number } | undefined;
  readonly containers: readonly ContainerStats[];
}

export interface CpuUsage {
  readonly timestampNs: bigint;
  /** Nanoseconds of CPU time since the cgroup was made. */
  readonly usageCoreNanoSeconds: bigint;
  /** CPU nanoseconds per second since the last answer; undefined in the first. */
  readonly usageNanoCores: bigint | undefined;
}

/** Bytes and counts. */
export interface MemoryUsage {
  readonly timestampNs: bigint;
  readonly workingSetBytes: number;
  /** Limit less working set; 0 without a limit. */
  readonly availableBytes: number;
  readonly usageBytes: number;
  readonly rssBytes: number;
  readonly pageFaults: number;
  readonly majorPageFaults: number;
}

/** cgroup v2: swap alone; v1: memory and swap together, as CRI-O reports it. */
export interface SwapUsage {
  readonly timestampNs: bigint;
  /** 0 without a limit. */
  readonly availableBytes: number;
  readonly usageBytes: number;
}

export interface FilesystemUsage {
  /** When the layer was walked, which may be some time ago. */
  readonly timestampNs: bigint;
  readonly mountPoint: string;
  readonly usedBytes: number;
  readonly inodesUsed: number;
}

export interface NetworkUsage {
  readonly timestampNs: bigint;
  readonly defaultInterface: InterfaceUsage | undefined;
  readonly interfaces: readonly InterfaceUsage[];
}

/** Since the interface was made. */
export interface InterfaceUsage {
  readonly name: string;
  readonly rxBytes: bigint;
  readonly rxErrors: bigint;
  readonly txBytes: bigint;
  readonly txErrors: bigint;
}
