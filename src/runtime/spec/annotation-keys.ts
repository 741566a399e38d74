/** The daemon's own annotations in config.json: what a restart reads back (cri-o's names). */
const prefix = 'io.kubernetes.cri-o.';

export const annotationKey = {
  annotations: `${prefix}Annotations`,
  cgroupParent: `${prefix}CgroupParent`,
  cniResult: `${prefix}CNIResult`,
  containerId: `${prefix}ContainerID`,
  containerName: `${prefix}ContainerName`,
  containerType: `${prefix}ContainerType`,
  created: `${prefix}Created`,
  hostName: `${prefix}HostName`,
  hostNetwork: `${prefix}HostNetwork`,
  hostnamePath: `${prefix}HostnamePath`,
  image: `${prefix}Image`,
  imageName: `${prefix}ImageName`,
  imageRef: `${prefix}ImageRef`,
  imageRepoDigests: `${prefix}ImageRepoDigests`,
  kubeName: `${prefix}KubeName`,
  labels: `${prefix}Labels`,
  logPath: `${prefix}LogPath`,
  metadata: `${prefix}Metadata`,
  mountPoint: `${prefix}MountPoint`,
  name: `${prefix}Name`,
  namespace: `${prefix}Namespace`,
  namespaceOptions: `${prefix}NamespaceOptions`,
  portMappings: `${prefix}PortMappings`,
  privilegedRuntime: `${prefix}PrivilegedRuntime`,
  resolvPath: `${prefix}ResolvPath`,
  runtimeHandler: `${prefix}RuntimeHandler`,
  sandboxId: `${prefix}SandboxID`,
  sandboxName: `${prefix}SandboxName`,
  seccompProfilePath: `${prefix}SeccompProfilePath`,
  shmPath: `${prefix}ShmPath`,
  stdin: `${prefix}Stdin`,
  stdinOnce: `${prefix}StdinOnce`,
  tty: `${prefix}TTY`,
  volumes: `${prefix}Volumes`,
  manager: 'io.container.manager',
  podOverhead: 'pod-linux-overhead.crio.io',
  podResources: 'pod-linux-resources.crio.io',
  spoofed: 'spoofed.crio.io',
  platformRuntimePath: 'platform-runtime-path.crio.io',
  stopSignal: 'org.opencontainers.image.stopSignal',
} as const;

/** `io.kubernetes.cri-o.IP.<n>` */
export function ipKey(index: number): string {
  return `${prefix}IP.${index}`;
}

const ownKeys: ReadonlySet<string> = new Set(Object.values(annotationKey));

/** True for keys only the daemon writes: a user's label or annotation must not pass for them. */
export function isOwnKey(key: string): boolean {
  return ownKeys.has(key) || key.startsWith(`${prefix}IP.`);
}
