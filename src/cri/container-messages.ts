import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ContainerMount } from '../container/config.ts';
import type { Container, ContainerStatus } from '../container/container.ts';
import type { LinuxResources } from '../pod/config.ts';
import { fromMap } from './checked.ts';
import {
  ContainerState,
  type ContainerAttributesSchema,
  type ContainerSchema,
  type ContainerStatusSchema,
  type LinuxContainerResourcesSchema,
  type MountSchema,
} from './gen/api_pb.ts';
import { idMappingMessage } from './pod-messages.ts';
import { fromSignalNumber } from './signals.ts';

const states: Readonly<Record<ContainerStatus, ContainerState>> = {
  created: ContainerState.CONTAINER_CREATED,
  running: ContainerState.CONTAINER_RUNNING,
  paused: ContainerState.CONTAINER_RUNNING,
  stopped: ContainerState.CONTAINER_EXITED,
  unknown: ContainerState.CONTAINER_UNKNOWN,
};

export function containerState(container: Container): ContainerState {
  return states[container.state.status];
}

/** The item of ListContainers: `image.image` is the string of the create request. */
export function containerListItem(container: Container): MessageInitShape<typeof ContainerSchema> {
  return {
    id: container.id,
    podSandboxId: container.podId,
    metadata: container.metadata,
    image: { image: container.requestedImage },
    imageRef: container.imageRef,
    state: containerState(container),
    createdAt: container.createdAtNs,
    labels: fromMap(container.labels),
    annotations: fromMap(container.annotations),
    imageId: container.imageId,
  };
}

export function containerStatusMessage(container: Container): MessageInitShape<typeof ContainerStatusSchema> {
  const { state, spec, resources } = container;
  const user = spec.process?.user;
  const hasExited = state.status === 'stopped';
  return {
    id: container.id,
    metadata: container.metadata,
    state: containerState(container),
    createdAt: container.createdAtNs,
    startedAt: startedAt(container),
    finishedAt: state.finishedAtNs,
    exitCode: hasExited ? (state.exitCode ?? -1) : 0,
    image: { image: container.imageName },
    imageRef: container.imageRef,
    imageId: container.imageId,
    ...(hasExited ? exitText(container) : {}),
    labels: fromMap(container.labels),
    annotations: fromMap(container.annotations),
    mounts: container.mounts.map(mountMessage),
    logPath: container.logPath,
    ...(resources === undefined ? {} : { resources: { linux: resourcesMessage(resources) } }),
    user: {
      linux: {
        uid: BigInt(user?.uid ?? 0),
        gid: BigInt(user?.gid ?? 0),
        supplementalGroups: (user?.additionalGids ?? []).map(BigInt),
      },
    },
    stopSignal: fromSignalNumber(container.stopSignalRequested),
  };
}

export function containerAttributes(container: Container): MessageInitShape<typeof ContainerAttributesSchema> {
  const { id, metadata, labels, annotations } = container;
  return { id, metadata, labels: fromMap(labels), annotations: fromMap(annotations) };
}

/** Go's zero time in nanoseconds: what CRI-O answers for an exited container that was never started. */
const neverStartedNs = -6795364578871345152n;

function startedAt({ state }: Container): bigint {
  return state.status === 'stopped' && state.startedAtNs === 0n ? neverStartedNs : state.startedAtNs;
}

/** The first reason that fits; the kubelet shows it, and restarts by the code alone. */
function exitText({ state }: Container): { reason: string; message: string } {
  if (state.oomKilled) return { reason: 'OOMKilled', message: '' };
  if (state.seccompKilled) return { reason: 'seccomp killed', message: state.error };
  if (state.exitCode === 0) return { reason: 'Completed', message: '' };
  return { reason: 'Error', message: state.error };
}

function mountMessage(mount: ContainerMount): MessageInitShape<typeof MountSchema> {
  const { containerPath, hostPath, readonly, selinuxRelabel, propagation, recursiveReadOnly, imageSubPath } = mount;
  return {
    containerPath,
    hostPath,
    readonly,
    selinuxRelabel,
    propagation,
    recursiveReadOnly,
    imageSubPath,
    uidMappings: mount.uidMappings.map(idMappingMessage),
    gidMappings: mount.gidMappings.map(idMappingMessage),
    ...(mount.image === undefined ? {} : { image: { image: mount.image } }),
  };
}

function resourcesMessage(resources: LinuxResources): MessageInitShape<typeof LinuxContainerResourcesSchema> {
  return {
    cpuPeriod: BigInt(resources.cpuPeriod),
    cpuQuota: BigInt(resources.cpuQuota),
    cpuShares: BigInt(resources.cpuShares),
    memoryLimitInBytes: BigInt(resources.memoryLimitBytes),
    oomScoreAdj: BigInt(resources.oomScoreAdj),
    cpusetCpus: resources.cpusetCpus,
    cpusetMems: resources.cpusetMems,
    hugepageLimits: resources.hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit })),
    unified: fromMap(resources.unified),
    memorySwapLimitInBytes: BigInt(resources.memorySwapLimitBytes),
  };
}
