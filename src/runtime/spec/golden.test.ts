import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Recording,
  recordedContainer,
  recordedPod,
  recordedSpec,
  recordings,
} from '../../../test/golden/recorded.ts';
import type { ImageConfig } from '../../image/images.ts';
import { NamespaceMode } from '../../pod/config.ts';
import { capabilityNames } from '../../sys/process.ts';
import { annotationKey as key, ipKey } from './annotation-keys.ts';
import { buildContainerSpec } from './container-spec.ts';
import type {
  ContainerSpecInput,
  HostFacts,
  NamespacePaths,
  PodSpecInput,
  SeccompChoice,
  SpecSettings,
} from './input.ts';
import type { Mount, Seccomp, Spec } from './oci.ts';
import { buildPodSpec } from './pod-spec.ts';
import { defaultProfile } from './seccomp-default.ts';
import { chooseSysctls } from './sysctls.ts';

/**
 * Compares built specs with those that CRI-O wrote for the same requests. Intended differences, each with its reason:
 *
 * - `ociVersion` is what the installed runtime accepts, not always 1.3.0 (crun before 1.14.3 refuses that).
 * - `process.env` names every variable once: CRI-O appends a second PATH (and TERM) when the image sets one too. The
 *   runtimes let the last one win, so programs see the same values.
 * - The seccomp allow list does not repeat `writev` where CRI-O's copy of the list has left-overs of the names that it
 *   takes out (clone, clone3, unshare).
 * - JSON maps inside annotations have sorted keys; CRI-O's order is random.
 */

for (const recording of recordings) {
  test(`buildPodSpec gives what CRI-O wrote for the pod of ${recording}`, () => {
    const recorded = recordedSpec(recording, 'pod');
    assert.deepEqual(comparable(buildPodSpec(podInput(recording, recorded))), comparable(recorded));
  });

  test(`buildContainerSpec gives what CRI-O wrote for the container of ${recording}`, () => {
    const recorded = recordedSpec(recording, 'container');
    const built = buildContainerSpec(containerInput(recording, recorded));
    assert.deepEqual(comparable(built), comparable(recorded));
  });
}

const settings: SpecSettings = {
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
const host: HostFacts = {
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

function podInput(recording: Recording, recorded: Spec): PodSpecInput {
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
    settings,
    host,
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

function containerInput(recording: Recording, recorded: Spec): ContainerSpecInput {
  const podSpec = recordedSpec(recording, 'pod');
  const pod = podInput(recording, podSpec);
  const config = recordedContainer(recording);
  const note = annotationsOf(recorded);
  const ip = recorded.annotations?.[ipKey(0)];
  return {
    ociVersion: '1.3.0',
    settings,
    host,
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

/** Applies the intended differences to a recorded spec; a built one stays as it is. */
function comparable(spec: Spec): unknown {
  const copy = structuredClone(spec);
  if (copy.process?.env) copy.process.env = lastOfEachName(copy.process.env);
  const annotations = copy.annotations ?? {};
  for (const name of [key.labels, key.annotations]) {
    const json = annotations[name];
    if (json !== undefined) annotations[name] = JSON.stringify(sortKeys(JSON.parse(json)));
  }
  if (copy.linux?.seccomp !== undefined) copy.linux.seccomp = comparableSeccomp(copy.linux.seccomp);
  if (copy.linux?.seccomp === null) delete copy.linux.seccomp;
  return copy;
}

/** Most recordings name the file with the same section instead of repeating it. */
function comparableSeccomp(seccomp: Seccomp | string): Seccomp {
  const full = typeof seccomp === 'string' ? recordedSpec('plain', 'container').linux?.seccomp : seccomp;
  assert.ok(full);
  const syscalls = (full.syscalls ?? []).map((rule) => ({ ...rule, names: [...new Set(rule.names)].toSorted() }));
  return { ...full, syscalls };
}

function lastOfEachName(env: readonly string[]): string[] {
  return [...new Map(env.map((entry) => [entry.split('=')[0] ?? '', entry])).values()];
}

function sortKeys(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)));
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
