import { CrioError } from '../base/errors.ts';
import type { JsonObject } from '../base/go-json.ts';
import { parseQuantity } from '../base/quantity.ts';
import type { PortMapping } from '../pod/config.ts';
import type { Attachment } from './cni/chain.ts';

/** What the network feature needs to know of a pod. */
export interface NetworkPod {
  readonly id: string;
  /** Reserved name, for error texts */
  readonly name: string;
  readonly metadata: { readonly name: string; readonly namespace: string; readonly uid: string };
  readonly annotations: ReadonlyMap<string, string>;
  readonly cgroupParent: string;
  readonly portMappings: readonly PortMapping[];
  /** Bind mount of the network namespace; empty when there is none any more. */
  readonly netnsPath: string;
}

export const interfaceName = 'eth0';

/** `namespace_name`, as error texts and locks have it. */
export function fullName(pod: NetworkPod): string {
  return `${pod.metadata.namespace}_${pod.metadata.name}`;
}

/** What plugins are told about a pod. `inheritedArgs` is the daemon's own CNI_ARGS. Pure. */
export function attachmentOf(pod: NetworkPod, inheritedArgs: string): Attachment {
  return {
    containerId: pod.id,
    netns: pod.netnsPath,
    ifName: interfaceName,
    args: [
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAMESPACE', pod.metadata.namespace],
      ['K8S_POD_NAME', pod.metadata.name],
      ['K8S_POD_INFRA_CONTAINER_ID', pod.id],
      ['K8S_POD_UID', pod.metadata.uid],
      ...parsePairs(inheritedArgs),
    ],
    capabilities: capabilitiesOf(pod),
  };
}

function parsePairs(args: string): [string, string][] {
  if (args === '') return [];
  return args.split(';').flatMap((pair): [string, string][] => {
    const [key, value, ...rest] = pair.split('=');
    return key === undefined || key === '' || value === undefined || rest.length > 0 ? [] : [[key, value]];
  });
}

function capabilitiesOf(pod: NetworkPod): JsonObject {
  const bandwidth = bandwidthOf(pod.annotations);
  return {
    'io.kubernetes.cri.pod-annotations': Object.fromEntries(pod.annotations),
    ...(pod.cgroupParent === '' ? {} : { cgroupPath: pod.cgroupParent }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
  };
}

/** (2^32 - 1) * 8 - 1 bits: what one direction may send at once. */
const bandwidthBurst = 34_359_738_359;

/** Bits per second from the annotations of Kubernetes; undefined when there is none above 0. */
export function bandwidthOf(annotations: ReadonlyMap<string, string>): JsonObject | undefined {
  const ingress = rateOf(annotations, 'kubernetes.io/ingress-bandwidth');
  const egress = rateOf(annotations, 'kubernetes.io/egress-bandwidth');
  if (ingress === 0 && egress === 0) return undefined;
  return {
    ingressRate: ingress,
    ingressBurst: ingress === 0 ? 0 : bandwidthBurst,
    egressRate: egress,
    egressBurst: egress === 0 ? 0 : bandwidthBurst,
  };
}

function rateOf(annotations: ReadonlyMap<string, string>, key: string): number {
  const text = annotations.get(key);
  if (text === undefined) return 0;
  const value = parseQuantity(text);
  if (value === undefined)
    throw new CrioError('invalid', `failed to parse pod bandwidth annotation "${key}": "${text}"`);
  return Math.max(0, value);
}
