import { readFileSync } from 'node:fs';
import {
  type ContainerConfig,
  type ContainerMount,
  type ContainerSecurityContext,
  MountPropagation,
} from '../../src/container/config.ts';
import {
  type IdMapping,
  type LinuxResources,
  NamespaceMode,
  type NamespaceOptions,
  type PodConfig,
  type SecurityProfile,
} from '../../src/pod/config.ts';
import type { Spec } from '../../src/runtime/spec/oci.ts';

/** One folder here: a pod with one container. */
export type Recording = 'plain' | 'hostns' | 'sharedpid' | 'userns' | 'viarunc';

export const recordings: readonly Recording[] = ['plain', 'hostns', 'sharedpid', 'userns', 'viarunc'];

export function recordedSpec(recording: Recording, kind: 'pod' | 'container'): Spec {
  // recorded by CRI-O: the shape is the OCI specification's
  return readJson(recording, `${kind}.config.json`).raw() as Spec;
}

export function recordedPod(recording: Recording): PodConfig {
  return podConfig(readJson(recording, 'request.pod.json'));
}

export function recordedContainer(recording: Recording): ContainerConfig {
  return containerConfig(readJson(recording, 'request.container.json'));
}

/** A place in a JSON document; what is absent or of another type reads as the zero value, as in the protocol. */
class Node {
  readonly #value: unknown;

  constructor(value: unknown) {
    this.#value = value;
  }

  at(key: string): Node {
    return new Node(this.#entries().find(([name]) => name === key)?.[1]);
  }
  /** Undefined when this place is absent. */
  read<T>(convert: (node: Node) => T): T | undefined {
    return this.#value === undefined ? undefined : convert(this);
  }
  text(): string {
    return typeof this.#value === 'string' ? this.#value : '';
  }
  count(): number {
    return typeof this.#value === 'number' ? this.#value : 0;
  }
  flag(): boolean {
    return this.#value === true;
  }
  items(): Node[] {
    return Array.isArray(this.#value) ? this.#value.map((item) => new Node(item)) : [];
  }
  texts(): string[] {
    return this.items().map((item) => item.text());
  }
  map(): Map<string, string> {
    return new Map(this.#entries().map(([key, value]) => [key, String(value)]));
  }
  raw(): unknown {
    return this.#value;
  }

  #entries(): [string, unknown][] {
    return typeof this.#value === 'object' && this.#value !== null ? Object.entries(this.#value) : [];
  }
}

function readJson(recording: Recording, file: string): Node {
  return new Node(JSON.parse(readFileSync(new URL(`${recording}/${file}`, import.meta.url), 'utf8')));
}

function podConfig(json: Node): PodConfig {
  const linux = json.at('linux');
  const dns = json.at('dns_config');
  const metadata = json.at('metadata');
  return {
    metadata: {
      name: metadata.at('name').text(),
      uid: metadata.at('uid').text(),
      namespace: metadata.at('namespace').text(),
      attempt: metadata.at('attempt').count(),
    },
    hostname: json.at('hostname').text(),
    logDirectory: json.at('log_directory').text(),
    dns: {
      servers: dns.at('servers').texts(),
      searches: dns.at('searches').texts(),
      options: dns.at('options').texts(),
    },
    portMappings: json
      .at('port_mappings')
      .items()
      .map((port) => ({
        protocol: 'TCP',
        containerPort: port.at('container_port').count(),
        hostPort: port.at('host_port').count(),
        hostIp: port.at('host_ip').text(),
      })),
    labels: json.at('labels').map(),
    annotations: json.at('annotations').map(),
    cgroupParent: linux.at('cgroup_parent').text(),
    securityContext: linux.at('security_context').read((context) => ({
      namespaceOptions: context.at('namespace_options').read(namespaceOptions),
      selinux: undefined,
      runAsUser: undefined,
      runAsGroup: undefined,
      readonlyRootfs: false,
      supplementalGroups: [],
      supplementalGroupsPolicy: 'merge' as const,
      privileged: context.at('privileged').flag(),
      seccomp: context.at('seccomp').read(securityProfile),
      apparmor: undefined,
    })),
    sysctls: linux.at('sysctls').map(),
    overhead: linux.at('overhead').read(linuxResources),
    resources: linux.at('resources').read(linuxResources),
  };
}

function containerConfig(json: Node): ContainerConfig {
  const linux = json.at('linux');
  return {
    metadata: { name: json.at('metadata').at('name').text(), attempt: json.at('metadata').at('attempt').count() },
    image: json.at('image').at('image').text(),
    userSpecifiedImage: '',
    imageAnnotations: new Map(),
    command: json.at('command').texts(),
    args: json.at('args').texts(),
    workingDir: json.at('working_dir').text(),
    envs: json
      .at('envs')
      .items()
      .map((env) => ({ key: env.at('key').text(), value: env.at('value').text() })),
    mounts: json.at('mounts').items().map(containerMount),
    devices: [],
    labels: json.at('labels').map(),
    annotations: json.at('annotations').map(),
    logPath: json.at('log_path').text(),
    stdin: json.at('stdin').flag(),
    stdinOnce: json.at('stdin_once').flag(),
    tty: json.at('tty').flag(),
    resources: linux.at('resources').read(linuxResources),
    securityContext: linux.at('security_context').read(containerSecurityContext),
    cdiDevices: [],
    stopSignal: 0,
  };
}

function containerMount(mount: Node): ContainerMount {
  return {
    containerPath: mount.at('container_path').text(),
    hostPath: mount.at('host_path').text(),
    readonly: mount.at('readonly').flag(),
    selinuxRelabel: false,
    propagation: MountPropagation.private,
    uidMappings: [],
    gidMappings: [],
    recursiveReadOnly: false,
    image: undefined,
    imageSubPath: '',
    mountOptions: [],
  };
}

function containerSecurityContext(context: Node): ContainerSecurityContext {
  return {
    addCapabilities: context.at('capabilities').at('add_capabilities').texts(),
    dropCapabilities: context.at('capabilities').at('drop_capabilities').texts(),
    privileged: context.at('privileged').flag(),
    namespaceOptions: context.at('namespace_options').read(namespaceOptions),
    selinux: undefined,
    runAsUser: context.at('run_as_user').read((user) => user.at('value').count()),
    runAsGroup: context.at('run_as_group').read((group) => group.at('value').count()),
    runAsUsername: '',
    readonlyRootfs: context.at('readonly_rootfs').flag(),
    supplementalGroups: context
      .at('supplemental_groups')
      .items()
      .map((gid) => gid.count()),
    supplementalGroupsPolicy: 'merge',
    noNewPrivs: context.at('no_new_privs').flag(),
    maskedPaths: context.at('masked_paths').texts(),
    readonlyPaths: context.at('readonly_paths').texts(),
    seccomp: context.at('seccomp').read(securityProfile),
    apparmor: undefined,
    apparmorProfile: '',
  };
}

function namespaceOptions(json: Node): NamespaceOptions {
  return {
    network: namespaceMode(json.at('network')),
    pid: namespaceMode(json.at('pid')),
    ipc: namespaceMode(json.at('ipc')),
    targetId: json.at('target_id').text(),
    userns: json.at('userns_options').read((userns) => ({
      mode: namespaceMode(userns.at('mode')),
      uids: userns.at('uids').items().map(idMapping),
      gids: userns.at('gids').items().map(idMapping),
    })),
  };
}

function namespaceMode(json: Node): NamespaceMode {
  const mode = Object.values(NamespaceMode).find((value) => value === json.count());
  if (mode === undefined) throw new Error(`namespace mode ${json.count()} is unknown`);
  return mode;
}

function idMapping(json: Node): IdMapping {
  return {
    containerId: json.at('container_id').count(),
    hostId: json.at('host_id').count(),
    size: json.at('length').count(),
  };
}

function securityProfile(json: Node): SecurityProfile {
  const types = ['runtime-default', 'unconfined', 'localhost'] as const;
  return {
    type: types[json.at('profile_type').count()] ?? 'runtime-default',
    localhostRef: json.at('localhost_ref').text(),
  };
}

function linuxResources(json: Node): LinuxResources {
  return {
    cpuPeriod: json.at('cpu_period').count(),
    cpuQuota: json.at('cpu_quota').count(),
    cpuShares: json.at('cpu_shares').count(),
    memoryLimitBytes: json.at('memory_limit_in_bytes').count(),
    oomScoreAdj: json.at('oom_score_adj').count(),
    cpusetCpus: json.at('cpuset_cpus').text(),
    cpusetMems: json.at('cpuset_mems').text(),
    hugepageLimits: [],
    unified: new Map(),
    memorySwapLimitBytes: json.at('memory_swap_limit_in_bytes').count(),
  };
}
