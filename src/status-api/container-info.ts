import { goJson } from '../base/go-json.ts';
import type { Container } from '../container/container.ts';
import type { Pod } from '../pod/pod.ts';

/** The body of `GET /containers/{id}`, which cAdvisor reads. Empty maps and lists are null. */
interface ContainerInfo {
  readonly name: string;
  /** Init process as the host numbers it; 0 without one. */
  readonly pid: number;
  readonly image: string;
  readonly imageRef: string;
  readonly createdAtNs: bigint;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  /** All annotations in config.json. */
  readonly crioAnnotations: Readonly<Record<string, string>> | undefined;
  readonly logPath: string;
  readonly root: string;
}

export function encodeContainer(container: Container, pod: Pod): string {
  const info: ContainerInfo = {
    name: container.name,
    pid: container.state.init?.pid ?? 0,
    image: container.imageName,
    imageRef: container.imageRef,
    createdAtNs: container.createdAtNs,
    labels: container.labels,
    annotations: container.annotations,
    crioAnnotations: container.spec.annotations,
    logPath: container.logPath,
    root: container.mountPoint,
  };
  return encode(info, pod);
}

/** Where no infra process runs, the first running container of the pod stands in for it. */
export function encodeInfra(pod: Pod, containers: readonly Container[], pauseImage: string): string {
  const annotations = annotationsOf(pod.spec);
  const running = containers.find(({ state }) => state.status === 'running');
  const info: ContainerInfo = {
    name: pod.infraName,
    pid: pod.infra?.pid ?? running?.state.init?.pid ?? 0,
    image: annotations?.['io.kubernetes.cri-o.ImageName'] ?? pauseImage,
    imageRef: annotations?.['io.kubernetes.cri-o.ImageRef'] ?? '',
    createdAtNs: pod.createdAtNs,
    labels: pod.labels,
    annotations: pod.annotations,
    crioAnnotations: annotations,
    logPath: annotations?.['io.kubernetes.cri-o.LogPath'] ?? '',
    root: annotations?.['io.kubernetes.cri-o.MountPoint'] ?? '',
  };
  return encode(info, pod);
}

/** By hand, because nanoseconds since the epoch do not fit into a number, and the order is that of CRI-O's answer. */
function encode(info: ContainerInfo, pod: Pod): string {
  const members: readonly (readonly [string, string])[] = [
    ['name', goJson(info.name)],
    ['pid', goJson(info.pid)],
    ['image', goJson(info.image)],
    ['image_ref', goJson(info.imageRef)],
    ['created_time', String(info.createdAtNs)],
    ['labels', encodeMap(info.labels)],
    ['annotations', encodeMap(info.annotations)],
    ['crio_annotations', goJson(info.crioAnnotations ?? null)],
    ['log_path', goJson(info.logPath)],
    ['root', goJson(info.root)],
    ['sandbox', goJson(pod.id)],
    ['ip_addresses', goJson(pod.ips.length === 0 ? null : pod.ips)],
    ['host_network', goJson(pod.hostNetwork)],
  ];
  return `{${members.map(([key, value]) => `"${key}":${value}`).join(',')}}`;
}

function encodeMap(map: ReadonlyMap<string, string>): string {
  return map.size === 0 ? 'null' : goJson(Object.fromEntries(map));
}

function annotationsOf(spec: unknown): Readonly<Record<string, string>> | undefined {
  if (typeof spec !== 'object' || spec === null || !('annotations' in spec)) return undefined;
  const { annotations } = spec;
  if (typeof annotations !== 'object' || annotations === null) return undefined;
  return Object.fromEntries(
    Object.entries(annotations).flatMap(([key, value]) => (typeof value === 'string' ? [[key, value]] : [])),
  );
}
