import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf';
import type {
  ContainerStats,
  CpuUsage,
  FilesystemUsage,
  InterfaceUsage,
  MemoryUsage,
  NetworkUsage,
  PodStats,
  SwapUsage,
} from '../stats/stats.ts';
import { containerAttributes } from './container-messages.ts';
import type * as cri from './gen/api_pb.ts';
import { podAttributes } from './pod-messages.ts';

type Init<Schema extends DescMessage> = MessageInitShape<Schema>;

export function containerStatsMessage(stats: ContainerStats): Init<typeof cri.ContainerStatsSchema> {
  const { container, cpu, memory, swap, writableLayer } = stats;
  return {
    attributes: containerAttributes(container),
    ...(cpu === undefined ? {} : { cpu: cpuMessage(cpu) }),
    ...(memory === undefined ? {} : { memory: memoryMessage(memory) }),
    ...(swap === undefined ? {} : { swap: swapMessage(swap) }),
    ...(writableLayer === undefined ? {} : { writableLayer: filesystemMessage(writableLayer) }),
  };
}

export function podStatsMessage(stats: PodStats): Init<typeof cri.PodSandboxStatsSchema> {
  const { pod, cpu, memory, network, process, containers } = stats;
  return {
    attributes: podAttributes(pod),
    linux: {
      ...(cpu === undefined ? {} : { cpu: cpuMessage(cpu) }),
      ...(memory === undefined ? {} : { memory: memoryMessage(memory) }),
      ...(network === undefined ? {} : { network: networkMessage(network) }),
      ...(process === undefined
        ? {}
        : { process: { timestamp: process.timestampNs, processCount: count(process.count) } }),
      containers: containers.map(containerStatsMessage),
    },
  };
}

function cpuMessage(cpu: CpuUsage): Init<typeof cri.CpuUsageSchema> {
  return {
    timestamp: cpu.timestampNs,
    usageCoreNanoSeconds: { value: cpu.usageCoreNanoSeconds },
    ...(cpu.usageNanoCores === undefined ? {} : { usageNanoCores: { value: cpu.usageNanoCores } }),
  };
}

function memoryMessage(memory: MemoryUsage): Init<typeof cri.MemoryUsageSchema> {
  return {
    timestamp: memory.timestampNs,
    workingSetBytes: count(memory.workingSetBytes),
    availableBytes: count(memory.availableBytes),
    usageBytes: count(memory.usageBytes),
    rssBytes: count(memory.rssBytes),
    pageFaults: count(memory.pageFaults),
    majorPageFaults: count(memory.majorPageFaults),
  };
}

function swapMessage(swap: SwapUsage): Init<typeof cri.SwapUsageSchema> {
  return {
    timestamp: swap.timestampNs,
    swapAvailableBytes: count(swap.availableBytes),
    swapUsageBytes: count(swap.usageBytes),
  };
}

function filesystemMessage(usage: FilesystemUsage): Init<typeof cri.FilesystemUsageSchema> {
  return {
    timestamp: usage.timestampNs,
    fsId: { mountpoint: usage.mountPoint },
    usedBytes: count(usage.usedBytes),
    inodesUsed: count(usage.inodesUsed),
  };
}

function networkMessage(network: NetworkUsage): Init<typeof cri.NetworkUsageSchema> {
  const { timestampNs, defaultInterface, interfaces } = network;
  return {
    timestamp: timestampNs,
    ...(defaultInterface === undefined ? {} : { defaultInterface: interfaceMessage(defaultInterface) }),
    interfaces: interfaces.map(interfaceMessage),
  };
}

function interfaceMessage(usage: InterfaceUsage): Init<typeof cri.NetworkInterfaceUsageSchema> {
  return {
    name: usage.name,
    rxBytes: { value: usage.rxBytes },
    rxErrors: { value: usage.rxErrors },
    txBytes: { value: usage.txBytes },
    txErrors: { value: usage.txErrors },
  };
}

function count(value: number): { value: bigint } {
  return { value: BigInt(Math.max(0, Math.trunc(value))) };
}
