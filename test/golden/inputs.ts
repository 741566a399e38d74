import assert from 'node:assert/strict';
import type { ImageConfig } from '../../src/image/images.ts';
import { NamespaceMode } from '../../src/pod/config.ts';
import { annotationKey as key, ipKey } from '../../src/runtime/spec/annotation-keys.ts';
import type {
  ContainerSpecInput,
  HostFacts,
  NamespacePaths,
  PodSpecInput,
  SeccompChoice,
  SpecSettings,
} from '../../src/runtime/spec/input.ts';
import type { Mount, Spec } from '../../src/runtime/spec/oci.ts';
import { defaultProfile } from '../../src/runtime/spec/seccomp-default.ts';
import { chooseSysctls } from '../../src/runtime/spec/sysctls.ts';
import { capabilityNames } from '../../src/sys/process.ts';
import { type Recording, recordedContainer, recordedPod, recordedSpec } from './recorded.ts';

/** What the spec builders are given for a recording: the request, and the paths and ids that were chosen then. */

export const recordedSettings: SpecSettings = {
  cgroupManager: 'cgroupfs',
  defaultCapabilities: 'CHOWN DAC_OVERRIDE FSETID FOWNER SETGID SETUID SETPCAP NET_BIND_SERVICE KILL'
    .split(' ')
    .map((name) => `CAP_${name}`),
  addInheritableCapabilities: false,
  defaultEnv: [],
  defaultUlimits: [],
  pidsLimit: -1,
  readOnly: false,
  infraCtrCpuset: '',
  hostnetworkDisableSelinux: true,
  containerMinMemory: 500 * 1024,
  privilegedWithoutHostDevices: false,
};

/** The machine of the recording. */
export const recordedHost: HostFacts = {
  architecture: 'amd64',
  boundingCapabilities: capabilityNames.filter((name) => name !== 'CAP_SYS_RESOURCE'),
  kernelCapabilities: capabilityNames,
  cgroupV2: false,
  controllers: new Set(['cpu', 'cpuset', 'memory', 'pids']),
  memorySwap: true,
  lowestOomScoreAdj: 0,
  seccomp: true,
  apparmor: false,
  selinux: false,
  thermalThrottlePaths: [],
};

export function podInput(recording: Recording, recorded = recordedSpec(recording, 'pod')): PodSpecInput {
  const config = recordedPod(recording);
  const note = annotationsOf(recorded);
  const namespaceOptions = config.securityContext?.namespaceOptions;
  assert.ok(namespaceOptions);
  const { sysctls } = chooseSysctls({
    defaults: [],
    requested: config.sysctls,
    namespaces: namespaceOptions,
    gidMap: [],
  });
  return {
    ociVersion: '1.3.0',
    settings: recordedSettings,
    host: recordedHost,
    id: note(key.sandboxId),
    name: note(key.name),
    infraName: note(key.containerName),
    metadata: config.metadata,
    labels: new Map([...podLabels(config.metadata), ...config.labels, ['io.kubernetes.container.name', 'POD']]),
    annotations: config.annotations,
    createdAtNs: nanoseconds(note(key.created)),
    hostname: note(key.hostName),
    cgroupParent: config.cgroupParent,
    runtimeHandler: note(key.runtimeHandler),
    args: ['/pause'],
    pauseImage: note(key.image),
    rootfs: note(key.mountPoint),
    logPath: note(key.logPath),
    resolvPath: note(key.resolvPath),
    hostnamePath: note(key.hostnamePath),
    shmPath: note(key.shmPath),
    namespaceOptions,
    namespacePaths: namespacePaths(recorded),
    hostNetwork: namespaceOptions.network === NamespaceMode.node,
    privileged: [namespaceOptions.network, namespaceOptions.pid, namespaceOptions.ipc].includes(NamespaceMode.node),
    infraDropped: namespaceOptions.pid !== NamespaceMode.pod,
    portMappings: config.portMappings,
    sysctls,
    uidMap: namespaceOptions.userns?.uids ?? [],
    gidMap: namespaceOptions.userns?.gids ?? [],
    cniResult: recorded.annotations?.[key.cniResult],
    overhead: config.overhead,
    resources: config.resources,
    seccomp: seccompOf(recorded),
    processLabel: '',
    mountLabel: '',
  };
}

export function containerInput(
  recording: Recording,
  recorded = recordedSpec(recording, 'container'),
): ContainerSpecInput {
  const podSpec = recordedSpec(recording, 'pod');
  const pod = podInput(recording, podSpec);
  const config = recordedContainer(recording);
  const note = annotationsOf(recorded);
  const ip = recorded.annotations?.[ipKey(0)];
  return {
    ociVersion: '1.3.0',
    settings: recordedSettings,
    host: recordedHost,
    id: note(key.containerId),
    name: note(key.name),
    pod: {
      id: pod.id,
      name: pod.name,
      annotations: pod.annotations,
      hostname: pod.hostname,
      cgroupParent: pod.cgroupParent,
      hostNetwork: pod.hostNetwork,
      namespacePaths: pod.namespacePaths,
      uidMap: pod.uidMap,
      gidMap: pod.gidMap,
      ips: ip === undefined ? [] : [ip],
      shmPath: pod.shmPath,
      resolvPath: pod.resolvPath,
      hostnamePath: pod.hostnamePath,
      containerEnvPath: mountOf(recorded, '/run/.containerenv')?.source ?? '',
    },
    config,
    annotations: config.annotations,
    image: {
      id: note(key.imageRef),
      name: note(key.imageName),
      repoDigests: [note(key.imageRepoDigests)],
      config: imageConfig,
    },
    createdAtNs: nanoseconds(note(key.created)),
    rootfs: note(key.mountPoint),
    logPath: note(key.logPath),
    user:
      recording === 'plain' || recording === 'viarunc'
        ? { uid: 1000, gid: 1000, additionalGids: [1000, 2000] }
        : { uid: 0, gid: 0, additionalGids: [0] },
    mounts: {
      images: [],
      binds: config.mounts.map((mount) => ({
        destination: mount.containerPath,
        type: 'bind',
        source: mount.hostPath,
        options: ['rbind', 'rprivate', mount.readonly ? 'ro' : 'rw', 'bind'],
      })),
      rootfsPropagation: undefined,
      volumes: config.mounts,
    },
    prepared: {
      users: ['/etc/passwd', '/etc/group'].flatMap((path) => mountOf(recorded, path) ?? []),
      imageVolumes: [],
      secrets: [],
      localtime: [],
    },
    devices: { nodes: [], rules: [] },
    pidNamespacePath: recorded.linux?.namespaces?.find(({ type }) => type === 'pid')?.path,
    seccomp: seccompOf(recorded),
    apparmorProfile: undefined,
    processLabel: '',
    mountLabel: '',
    platformRuntimePath: '',
    stopSignal: '',
    hooks: undefined,
    extraEnv: [],
  };
}

const imageConfig: ImageConfig = {
  user: '',
  env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
  entrypoint: [],
  cmd: ['sh'],
  workingDir: '',
  labels: new Map(),
  stopSignal: '',
  volumes: [],
  architecture: 'amd64',
  os: 'linux',
  document: {},
};

/** The recordings of "RuntimeDefault" and of a privileged pod's infra container carry the built-in profile. */
function seccompOf(recorded: Spec): SeccompChoice {
  const path = recorded.annotations?.[key.seccompProfilePath] ?? '';
  return {
    profile: recorded.linux?.seccomp === undefined || recorded.linux.seccomp === null ? undefined : defaultProfile,
    path,
  };
}

function annotationsOf(spec: Spec): (name: string) => string {
  return (name) => spec.annotations?.[name] ?? '';
}

function mountOf(spec: Spec, destination: string): Mount | undefined {
  return spec.mounts?.find((mount) => mount.destination === destination);
}

function namespacePaths(spec: Spec): NamespacePaths {
  const types = ['network', 'ipc', 'uts', 'user'] as const;
  return new Map(
    types.flatMap((type) => {
      const path = spec.linux?.namespaces?.find((namespace) => namespace.type === type)?.path;
      return path === undefined ? [] : [[type, path] as const];
    }),
  );
}

function podLabels(metadata: PodSpecInput['metadata']): [string, string][] {
  return [
    ['io.kubernetes.pod.name', metadata.name],
    ['io.kubernetes.pod.namespace', metadata.namespace],
    ['io.kubernetes.pod.uid', metadata.uid],
  ];
}

function nanoseconds(time: string): bigint {
  const [, seconds = '', fraction = ''] = /^([^.]+)(?:\.(\d+))?Z$/.exec(time) ?? [];
  return BigInt(Date.parse(`${seconds}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}
