import type { MessageInitShape } from '@bufbuild/protobuf';
import { CrioError, wrap } from '../base/errors.ts';
import type { Container } from '../container/container.ts';
import { matchesPairs } from '../container/labels.ts';
import type { Containers } from '../container/containers.ts';
import type { Config } from '../config/config.ts';
import type { Network } from '../network/network.ts';
import type { Pod } from '../pod/pod.ts';
import type { Pods } from '../pod/pods.ts';
import type { ContainerRuntime } from '../runtime/runtime.ts';
import type { Stats } from '../stats/stats.ts';
import type { Streaming } from '../stream/streaming.ts';
import { exactNumber, toMap } from './checked.ts';
import { inChunks } from './chunks.ts';
import { toContainerConfig } from './container-config.ts';
import { containerListItem, containerState, containerStatusMessage } from './container-messages.ts';
import type { ServiceHandlers } from './dispatch.ts';
import { EncodedList } from './encoded-list.ts';
import * as cri from './gen/api_pb.ts';
import { toPodConfig, toResources } from './pod-config.ts';
import { podListItem, podState, podStatusMessage } from './pod-messages.ts';
import { containerStatsMessage, podStatsMessage } from './stats-messages.ts';
import { statusConfig } from './status-config.ts';

export interface RuntimeServiceDeps {
  readonly pods: Pods;
  readonly containers: Containers;
  readonly network: Network;
  readonly stats: Stats;
  readonly streaming: Streaming;
  readonly runtimes: ReadonlyMap<string, ContainerRuntime>;
  /** Read at each call: a reload replaces it. */
  readonly config: () => Config;
  /** What `Version` reports; another major.minor makes CRI-O wipe the node. */
  readonly version: string;
}

const kubeApiVersion = '0.1.0';
const runtimeApiVersion = 'v1';
/** Number of the repeated field in ListPodSandboxResponse and ListContainersResponse. */
const itemsField = 1;

/** CRI's RuntimeService: messages to calls of the pod and container features and back. */
export function createRuntimeService(deps: RuntimeServiceDeps): ServiceHandlers<typeof cri.RuntimeService> {
  return {
    ...nodeHandlers(deps),
    ...podHandlers(deps),
    ...containerHandlers(deps),
    ...streamHandlers(deps),
    ...statsHandlers(deps),
  };
}

function nodeHandlers(deps: RuntimeServiceDeps) {
  return {
    version: async () => ({
      version: kubeApiVersion,
      runtimeName: 'cri-o',
      runtimeVersion: deps.version,
      runtimeApiVersion,
    }),
    status: async (_call, { verbose }) => ({
      status: { conditions: [{ type: 'RuntimeReady', status: true }, networkCondition(deps.network)] },
      info: verbose ? { config: JSON.stringify(statusConfig(deps.config())) } : {},
      runtimeHandlers: handlerList(deps),
      features: { supplementalGroupsPolicy: true, userNamespacesHostNetwork: true },
    }),
    runtimeConfig: async () => ({
      linux: {
        cgroupDriver:
          deps.config().runtime.cgroupManager === 'systemd' ? cri.CgroupDriver.SYSTEMD : cri.CgroupDriver.CGROUPFS,
      },
    }),
    updateRuntimeConfig: async () => ({}),
    // CRI-O ends the stream at once, with success, when pod events are off: a client cannot tell why. To the kubelet either
    // means that it has to list.
    getContainerEvents: () => {
      const reason = deps.config().runtime.enablePodEvents
        ? 'not implemented in this release'
        : 'pod events are off (enable_pod_events)';
      throw new CrioError('unimplemented', `GetContainerEvents: ${reason}`);
    },
  } satisfies ServiceHandlers<typeof cri.RuntimeService>;
}

function networkCondition(network: Network): MessageInitShape<typeof cri.RuntimeConditionSchema> {
  const problem = network.status();
  if (problem === undefined) return { type: 'NetworkReady', status: true };
  const message = `Network plugin returns error: ${problem}`;
  return { type: 'NetworkReady', status: false, reason: 'NetworkPluginNotReady', message };
}

/** One entry per configured handler, and one with an empty name that repeats the default. */
function handlerList({ runtimes, config }: RuntimeServiceDeps): MessageInitShape<typeof cri.RuntimeHandlerSchema>[] {
  const { runtimes: configured, defaultRuntime } = config().runtime;
  const offered = [...runtimes].filter(([name]) => configured.has(name));
  const entries = offered.map(([name, runtime]) => ({ name, features: handlerFeatures(runtime) }));
  const fallback = runtimes.get(defaultRuntime);
  return fallback === undefined ? entries : [...entries, { name: '', features: handlerFeatures(fallback) }];
}

function handlerFeatures({ features }: ContainerRuntime) {
  return { recursiveReadOnlyMounts: features.recursiveReadOnlyMounts, userNamespaces: features.idmapMounts };
}

function podHandlers(deps: RuntimeServiceDeps) {
  const { pods } = deps;
  const encoded = new EncodedList<Pod, typeof cri.PodSandboxSchema>({
    output: cri.PodSandboxSchema,
    toMessage: podListItem,
    versionOf: (pod) => Number(pod.isReady),
  });
  return {
    async runPodSandbox(call, { config, runtimeHandler }) {
      return { podSandboxId: await pods.run(call, toPodConfig(config), runtimeHandler) };
    },
    async stopPodSandbox(call, { podSandboxId }) {
      await pods.stop(call, nonEmptyPodId(podSandboxId));
      return {};
    },
    async removePodSandbox(call, { podSandboxId }) {
      await pods.remove(call, nonEmptyPodId(podSandboxId));
      return {};
    },
    async podSandboxStatus(_call, { podSandboxId, verbose }) {
      const pod = pods.find(podSandboxId);
      if (pod === undefined) {
        throw new CrioError('not-found', `could not find pod "${podSandboxId}": PodSandbox with ID not found`);
      }
      return { status: podStatusMessage(pod), info: verbose ? { info: podInfo(pod) } : {} };
    },
    // Only NRI plugins would be told; nothing of the pod changes.
    async updatePodSandboxResources(_call, { podSandboxId }) {
      if (pods.find(podSandboxId) === undefined)
        throw new CrioError('not-found', `could not find pod "${podSandboxId}"`);
      return {};
    },
    async listPodSandbox(_call, { filter }) {
      return encoded.encode(selectPods(pods, filter), itemsField);
    },
    async *streamPodSandboxes(_call, { filter }) {
      for (const chunk of inChunks(selectPods(pods, filter))) yield encoded.encode(chunk, itemsField);
    },
  } satisfies ServiceHandlers<typeof cri.RuntimeService>;
}

function nonEmptyPodId(id: string): string {
  if (id === '') throw new CrioError('invalid', 'PodSandboxId should not be empty');
  return id;
}

function podInfo(pod: Pod): string {
  if (pod.infra === undefined) return JSON.stringify({ runtimeSpec: pod.spec });
  return JSON.stringify({ image: pod.infraImage, pid: pod.infra.pid, runtimeSpec: pod.spec });
}

interface PodSelection {
  readonly id: string;
  readonly labelSelector: Readonly<Record<string, string>>;
  readonly state?: cri.PodSandboxStateValue | undefined;
}

function selectPods(pods: Pods, filter: PodSelection | undefined): readonly Pod[] {
  const all = pods.list();
  if (filter === undefined) return all;
  const { id, state } = filter;
  const labels = toMap(filter.labelSelector);
  if (id !== '') {
    const pod = pods.find(id);
    return pod !== undefined && matches(pod) ? [pod] : [];
  }
  return all.filter(matches);

  function matches(pod: Pod): boolean {
    return (state === undefined || podState(pod) === state.state) && matchesPairs(pod.labels, labels);
  }
}

function containerHandlers(deps: RuntimeServiceDeps) {
  const { containers } = deps;
  const encoded = new EncodedList<Container, typeof cri.ContainerSchema>({
    output: cri.ContainerSchema,
    toMessage: containerListItem,
    versionOf: (container) => container.version,
  });
  return {
    async createContainer(call, { podSandboxId, config, sandboxConfig }) {
      const checked = toContainerConfig(config);
      if (sandboxConfig === undefined) throw new CrioError('invalid', 'sandbox config is nil');
      if (sandboxConfig.metadata === undefined) throw new CrioError('invalid', 'sandbox config metadata is nil');
      const options = { podId: nonEmptyPodId(podSandboxId), config: checked, podConfig: toPodConfig(sandboxConfig) };
      return { containerId: await containers.create(call, options) };
    },
    async startContainer(call, { containerId }) {
      await containers.start(call, containerId);
      return {};
    },
    async stopContainer(call, { containerId, timeout }) {
      await containers.stop(call, containerId, exactNumber(timeout, 'timeout') * 1000);
      return {};
    },
    async removeContainer(call, { containerId }) {
      await containers.remove(call, containerId);
      return {};
    },
    async containerStatus(call, { containerId, verbose }) {
      const container = await containers.status(call, containerId);
      return { status: containerStatusMessage(container), info: verbose ? { info: containerInfo(container) } : {} };
    },
    async listContainers(_call, { filter }) {
      return encoded.encode(selectContainers(deps, filter), itemsField);
    },
    async *streamContainers(_call, { filter }) {
      for (const chunk of inChunks(selectContainers(deps, filter))) yield encoded.encode(chunk, itemsField);
    },
    async updateContainerResources(call, { containerId, linux }) {
      if (linux !== undefined) await containers.updateResources(call, containerId, toResources(linux));
      return {};
    },
    async reopenContainerLog(call, { containerId }) {
      await containers.reopenLog(call, containerId);
      return {};
    },
    async execSync(call, { containerId, cmd, timeout }) {
      const timeoutMs = exactNumber(timeout, 'timeout') * 1000;
      return containers.execSync(call, containerId, { command: cmd, timeoutMs });
    },
  } satisfies ServiceHandlers<typeof cri.RuntimeService>;
}

function streamHandlers({ streaming }: RuntimeServiceDeps) {
  return {
    exec: async (_call, { containerId, cmd, stdin, stdout, stderr, tty }) =>
      endpoint('exec', () => streaming.exec({ containerId, command: cmd, stdin, stdout, stderr, tty })),
    attach: async (_call, { containerId, stdin, stdout, stderr, tty }) =>
      endpoint('attach', () => streaming.attach({ containerId, stdin, stdout, stderr, tty })),
    portForward: async (_call, { podSandboxId, port }) =>
      endpoint('portforward', () => streaming.portForward({ podId: podSandboxId, ports: port })),
  } satisfies ServiceHandlers<typeof cri.RuntimeService>;
}

/** The words around an error are CRI-O's. */
function endpoint(kind: string, prepare: () => string): { url: string } {
  try {
    return { url: prepare() };
  } catch (error) {
    throw wrap(`unable to prepare ${kind} endpoint`, error);
  }
}

function containerInfo(container: Container): string {
  return JSON.stringify({
    sandboxID: container.podId,
    pid: container.state.init?.pid ?? 0,
    runtimeSpec: container.spec,
    privileged: container.privileged,
  });
}

interface ContainerSelection {
  readonly id: string;
  readonly podSandboxId: string;
  readonly labelSelector: Readonly<Record<string, string>>;
  readonly state?: cri.ContainerStateValue | undefined;
}

function selectContainers(
  { containers }: RuntimeServiceDeps,
  filter: ContainerSelection | undefined,
): readonly Container[] {
  if (filter === undefined) return containers.list();
  const { id, podSandboxId, state, labelSelector } = filter;
  const found = containers.list({ id, podId: podSandboxId, labels: toMap(labelSelector) });
  return state === undefined ? found : found.filter((container) => containerState(container) === state.state);
}

function statsHandlers(deps: RuntimeServiceDeps) {
  const { containers, pods, stats } = deps;
  const listOfContainers = async (filter: cri.ContainerStatsFilter | undefined) => {
    const found = await stats.ofContainers(selectContainers(deps, filter));
    return found.map(containerStatsMessage);
  };
  const listOfPods = async (filter: cri.PodSandboxStatsFilter | undefined) => {
    const selected = selectPods(pods, filter);
    const found = await stats.ofPods(selected);
    return found.map(podStatsMessage);
  };
  return {
    async containerStats(_call, { containerId }) {
      const container = containers.find(containerId);
      if (container === undefined) throw new CrioError('unknown', `could not find container "${containerId}"`);
      const [found] = await stats.ofContainers([container]);
      return found === undefined ? {} : { stats: containerStatsMessage(found) };
    },
    listContainerStats: async (_call, { filter }) => ({ stats: await listOfContainers(filter) }),
    async *streamContainerStats(_call, { filter }) {
      for (const chunk of inChunks(await listOfContainers(filter))) yield { containerStats: [...chunk] };
    },
    async podSandboxStats(_call, { podSandboxId }) {
      const pod = pods.find(podSandboxId);
      if (pod === undefined) throw new CrioError('unknown', `could not find pod "${podSandboxId}"`);
      const [found] = await stats.ofPods([pod]);
      return found === undefined ? {} : { stats: podStatsMessage(found) };
    },
    listPodSandboxStats: async (_call, { filter }) => ({ stats: await listOfPods(filter) }),
    async *streamPodSandboxStats(_call, { filter }) {
      for (const chunk of inChunks(await listOfPods(filter))) yield { podSandboxStats: [...chunk] };
    },
  } satisfies ServiceHandlers<typeof cri.RuntimeService>;
}
