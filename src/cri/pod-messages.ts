import type { MessageInitShape } from '@bufbuild/protobuf';
import type { IdMapping, NamespaceOptions } from '../pod/config.ts';
import type { Pod } from '../pod/pod.ts';
import { fromMap } from './checked.ts';
import {
  PodSandboxState,
  type NamespaceOptionSchema,
  type PodSandboxAttributesSchema,
  type PodSandboxSchema,
  type PodSandboxStatusSchema,
} from './gen/api_pb.ts';

/** The item of ListPodSandbox. CRI-O leaves `runtime_handler` empty here, and so do we. */
export function podListItem(pod: Pod): MessageInitShape<typeof PodSandboxSchema> {
  return {
    id: pod.id,
    metadata: pod.metadata,
    state: podState(pod),
    createdAt: pod.createdAtNs,
    labels: fromMap(pod.labels),
    annotations: fromMap(pod.annotations),
  };
}

export function podStatusMessage(pod: Pod): MessageInitShape<typeof PodSandboxStatusSchema> {
  const [ip = '', ...additional] = pod.ips;
  return {
    id: pod.id,
    metadata: pod.metadata,
    state: podState(pod),
    createdAt: pod.createdAtNs,
    network: { ip, additionalIps: additional.map((address) => ({ ip: address })) },
    linux: { namespaces: { options: namespaceOptionsMessage(pod.namespaceOptions) } },
    labels: fromMap(pod.labels),
    annotations: fromMap(pod.annotations),
  };
}

export function podAttributes(pod: Pod): MessageInitShape<typeof PodSandboxAttributesSchema> {
  return { id: pod.id, metadata: pod.metadata, labels: fromMap(pod.labels), annotations: fromMap(pod.annotations) };
}

export function podState(pod: Pod): PodSandboxState {
  return pod.isReady ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY;
}

export function idMappingMessage(mapping: IdMapping) {
  return { hostId: mapping.hostId, containerId: mapping.containerId, length: mapping.size };
}

function namespaceOptionsMessage(options: NamespaceOptions): MessageInitShape<typeof NamespaceOptionSchema> {
  const { network, pid, ipc, targetId, userns } = options;
  if (userns === undefined) return { network, pid, ipc, targetId };
  const usernsOptions = {
    mode: userns.mode,
    uids: userns.uids.map(idMappingMessage),
    gids: userns.gids.map(idMappingMessage),
  };
  return { network, pid, ipc, targetId, usernsOptions };
}
