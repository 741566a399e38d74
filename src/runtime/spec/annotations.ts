import { filterAnnotations } from './annotation-filter.ts';
import { annotationKey as key, ipKey, isOwnKey } from './annotation-keys.ts';
import {
  mapJson,
  metadataJson,
  namespaceOptionsJson,
  portMappingsJson,
  resourcesJson,
  rfc3339Nano,
  volumesJson,
} from './cri-json.ts';
import type { ContainerSpecInput, PodSpecInput } from './input.ts';

/** All annotations of an infra container's spec. */
export function podAnnotations(input: PodSpecInput): Record<string, string> {
  return {
    ...plainPairs(input.labels, input.annotations),
    [key.metadata]: metadataJson(input.metadata),
    [key.labels]: mapJson(input.labels, '{}'),
    [key.annotations]: mapJson(input.annotations, '{}'),
    [key.logPath]: input.logPath,
    [key.name]: input.name,
    [key.sandboxName]: input.name,
    [key.sandboxId]: input.id,
    [key.containerId]: input.id,
    [key.containerName]: input.infraName,
    [key.containerType]: 'sandbox',
    [key.namespace]: input.metadata.namespace,
    [key.kubeName]: input.metadata.name,
    [key.image]: input.pauseImage,
    [key.imageName]: input.pauseImage,
    [key.hostName]: input.hostname,
    [key.hostnamePath]: input.hostnamePath,
    [key.resolvPath]: input.resolvPath,
    [key.shmPath]: input.shmPath,
    [key.mountPoint]: input.rootfs,
    [key.cgroupParent]: input.cgroupParent,
    [key.runtimeHandler]: input.runtimeHandler,
    [key.privilegedRuntime]: String(input.privileged),
    [key.hostNetwork]: String(input.hostNetwork),
    [key.namespaceOptions]: namespaceOptionsJson(input.namespaceOptions),
    [key.portMappings]: portMappingsJson(input.portMappings),
    [key.seccompProfilePath]: input.seccomp.path,
    [key.created]: rfc3339Nano(input.createdAtNs),
    [key.manager]: 'cri-o',
    [key.podOverhead]: resourcesJson(input.overhead),
    [key.podResources]: resourcesJson(input.resources),
    ...(input.cniResult === undefined ? {} : { [key.cniResult]: input.cniResult }),
    ...(input.infraDropped ? { [key.spoofed]: 'true' } : {}),
  };
}

/** All annotations of a container's spec; it starts with those of its pod. */
export function containerAnnotations(input: ContainerSpecInput): Record<string, string> {
  const { config, image, pod } = input;
  return {
    ...plainPairs(new Map(), pod.annotations),
    ...plainPairs(config.labels, input.annotations),
    [key.image]: config.image,
    [key.imageName]: image.name,
    [key.imageRef]: image.id,
    ...(image.repoDigests.length === 0 ? {} : { [key.imageRepoDigests]: image.repoDigests.join(',') }),
    [key.name]: input.name,
    [key.containerId]: input.id,
    [key.sandboxId]: pod.id,
    [key.sandboxName]: pod.name,
    [key.containerType]: 'container',
    [key.logPath]: input.logPath,
    [key.tty]: String(config.tty),
    [key.stdin]: String(config.stdin),
    [key.stdinOnce]: String(config.stdinOnce),
    [key.resolvPath]: pod.resolvPath,
    [key.mountPoint]: input.rootfs,
    [key.seccompProfilePath]: input.seccomp.path,
    [key.created]: rfc3339Nano(input.createdAtNs),
    [key.metadata]: metadataJson(config.metadata),
    [key.labels]: mapJson(config.labels, 'null'),
    [key.annotations]: mapJson(input.annotations, 'null'),
    [key.volumes]: volumesJson(input.mounts.volumes),
    [key.manager]: 'cri-o',
    [key.platformRuntimePath]: input.platformRuntimePath,
    ...(input.stopSignal === '' ? {} : { [key.stopSignal]: input.stopSignal }),
    ...Object.fromEntries(pod.ips.map((ip, index) => [ipKey(index), ip])),
    ...systemdProperties(input),
  };
}

/**
 * Every label and annotation is also an annotation of its own, which the runtime and its hooks read. A label is no way
 * around the allow list of annotations, and neither may pass for a record of the daemon.
 */
function plainPairs(
  labels: ReadonlyMap<string, string>,
  annotations: ReadonlyMap<string, string>,
): Record<string, string> {
  const pairs = [...filterAnnotations(labels, []), ...annotations];
  return Object.fromEntries(pairs.filter(([name]) => !isOwnKey(name) && name !== '__proto__'));
}

function systemdProperties(input: ContainerSpecInput): Record<string, string> {
  if (input.settings.cgroupManager !== 'systemd') return {};
  const grace = input.annotations.get('io.kubernetes.pod.terminationGracePeriod') ?? '';
  return {
    ...(/^\d{1,9}$/.test(grace) ? { 'org.systemd.property.TimeoutStopUSec': `uint64 ${grace}000000` } : {}),
    'org.systemd.property.DefaultDependencies': 'true',
    'org.systemd.property.After': "['crio.service']",
  };
}
