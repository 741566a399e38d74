import type { ContainerConfig, ContainerMount } from '../../container/config.ts';
import type { ImageConfig } from '../../image/images.ts';
import type { IdMapping, LinuxResources, NamespaceOptions, PodConfig, PortMapping } from '../../pod/config.ts';
import type { Pod } from '../../pod/pod.ts';
import type { Hooks, Linux, LinuxResources as SpecResources, Mount } from './oci.ts';
import type { SeccompProfile } from './seccomp-profile.ts';

/**
 * Everything a spec is computed from, as plain data: paths are absolute and resolved, users looked up, devices
 * and mounts found. Who builds an input does all reading; the spec builders only decide.
 */

/** Node-wide and handler-wide options; `specSettings` takes them from the configuration. */
export interface SpecSettings {
  readonly cgroupManager: 'cgroupfs' | 'systemd';
  /** `CAP_` names, canonical */
  readonly defaultCapabilities: readonly string[];
  readonly addInheritableCapabilities: boolean;
  /** `KEY=value` */
  readonly defaultEnv: readonly string[];
  /** `name=soft[:hard]` */
  readonly defaultUlimits: readonly string[];
  /** Processes per container; -1 for no limit */
  readonly pidsLimit: number;
  /** `crio.runtime.read_only` */
  readonly readOnly: boolean;
  /** CPUs of infra containers, `` when not set */
  readonly infraCtrCpuset: string;
  readonly hostnetworkDisableSelinux: boolean;
  /** Smallest memory limit a container may ask for, bytes */
  readonly containerMinMemory: number;
  readonly privilegedWithoutHostDevices: boolean;
}

/** What the kernel and this process allow; read once at start by `readHostFacts`. */
export interface HostFacts {
  /** GOARCH name: `amd64`, `arm64` ... */
  readonly architecture: string;
  /** The daemon's bounding set: no more can be given to a container. `CAP_` names. */
  readonly boundingCapabilities: readonly string[];
  /** All the kernel knows, in kernel order. `CAP_` names. */
  readonly kernelCapabilities: readonly string[];
  readonly cgroupV2: boolean;
  /** Controllers that can be used, in v1 names: `cpu`, `cpuset`, `memory`, `pids`, `hugetlb` ... */
  readonly controllers: ReadonlySet<string>;
  /** Whether swap can be limited (memory.memsw.* or memory.swap.max). */
  readonly memorySwap: boolean;
  /** Lowest oom_score_adj this process may give away; -1000 with CAP_SYS_RESOURCE. */
  readonly lowestOomScoreAdj: number;
  readonly seccomp: boolean;
  readonly apparmor: boolean;
  readonly selinux: boolean;
  /** Existing `/sys/devices/system/cpu/cpuN/thermal_throttle` */
  readonly thermalThrottlePaths: readonly string[];
}

/** The seccomp decision: a profile (none = unconfined) and the text of the annotation SeccompProfilePath. */
export interface SeccompChoice {
  readonly profile: SeccompProfile | undefined;
  /** ``, `Unconfined`, `RuntimeDefault`, or the path of a local profile */
  readonly path: string;
}

export type NamespacePaths = Pod['namespacePaths'];

export interface PodSpecInput {
  /** From RuntimeFeatures. */
  readonly ociVersion: string;
  readonly settings: SpecSettings;
  readonly host: HostFacts;
  readonly id: string;
  /** `k8s_<pod>_<namespace>_<uid>_<attempt>` */
  readonly name: string;
  /** `k8s_POD_...` */
  readonly infraName: string;
  readonly metadata: PodConfig['metadata'];
  /** With io.kubernetes.pod.* and io.kubernetes.container.name=POD. */
  readonly labels: ReadonlyMap<string, string>;
  /** Merged with the handler's, filtered by `filterAnnotations`. */
  readonly annotations: ReadonlyMap<string, string>;
  readonly createdAtNs: bigint;
  readonly hostname: string;
  /** As the request or the systemd base name has it; `` when none */
  readonly cgroupParent: string;
  readonly runtimeHandler: string;
  /** Pause command, or entrypoint and command of the pause image. */
  readonly args: readonly string[];
  /** Environment of the pause image is not used; its name is. */
  readonly pauseImage: string;
  /** Mount point of the rootfs. */
  readonly rootfs: string;
  readonly logPath: string;
  readonly resolvPath: string;
  readonly hostnamePath: string;
  readonly shmPath: string;
  readonly namespaceOptions: NamespaceOptions;
  readonly namespacePaths: NamespacePaths;
  readonly hostNetwork: boolean;
  /** As in Pod.privileged. */
  readonly privileged: boolean;
  readonly infraDropped: boolean;
  readonly portMappings: readonly PortMapping[];
  /** Allowed ones only: the result of `chooseSysctls`. */
  readonly sysctls: ReadonlyMap<string, string>;
  readonly uidMap: readonly IdMapping[];
  readonly gidMap: readonly IdMapping[];
  /** Result of CNI ADD as JSON text; undefined on the host network. */
  readonly cniResult: string | undefined;
  readonly overhead: LinuxResources | undefined;
  readonly resources: LinuxResources | undefined;
  readonly seccomp: SeccompChoice;
  readonly processLabel: string;
  readonly mountLabel: string;
}

/** The process user inside the container's user namespace. */
export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  /** gid first */
  readonly additionalGids: readonly number[];
}

/** Device nodes with their cgroup rules; the result of `resolveDevices`. */
export interface ResolvedDevices {
  readonly nodes: NonNullable<Linux['devices']>;
  readonly rules: NonNullable<SpecResources['devices']>;
}

/** The request's mounts after `resolveMounts`. */
export interface ResolvedMounts {
  /** Image and artifact mounts, in request order. */
  readonly images: readonly Mount[];
  /** Binds of host paths, in request order. */
  readonly binds: readonly Mount[];
  /** `rslave` or `rshared` when a bind needs it. */
  readonly rootfsPropagation: 'rslave' | 'rshared' | undefined;
  /** For the annotation Volumes and ContainerStatus: as in the request, with the resolved host path. */
  readonly volumes: readonly ContainerMount[];
}

/** Mounts that preparing the container produced; each list in the order it is written. */
export interface PreparedMounts {
  /** passwd and group copies */
  readonly users: readonly Mount[];
  /** directories for the image's VOLUMEs (image_volumes = bind) */
  readonly imageVolumes: readonly Mount[];
  /** copies made from mounts.conf */
  readonly secrets: readonly Mount[];
  /** /etc/localtime */
  readonly localtime: readonly Mount[];
}

export interface ContainerSpecInput {
  /** From RuntimeFeatures. */
  readonly ociVersion: string;
  readonly settings: SpecSettings;
  readonly host: HostFacts;
  readonly id: string;
  /** `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>` */
  readonly name: string;
  readonly pod: Pick<
    Pod,
    | 'id'
    | 'name'
    | 'annotations'
    | 'hostname'
    | 'cgroupParent'
    | 'hostNetwork'
    | 'namespacePaths'
    | 'uidMap'
    | 'gidMap'
    | 'ips'
    | 'shmPath'
    | 'resolvPath'
    | 'hostnamePath'
    | 'containerEnvPath'
  >;
  readonly config: ContainerConfig;
  /** The container's own, filtered by `filterAnnotations`. */
  readonly annotations: ReadonlyMap<string, string>;
  readonly image: {
    readonly id: string;
    /** Some name; `` when it has none */
    readonly name: string;
    readonly repoDigests: readonly string[];
    readonly config: ImageConfig;
  };
  readonly createdAtNs: bigint;
  /** Mount point of the rootfs. */
  readonly rootfs: string;
  /** Absolute */
  readonly logPath: string;
  readonly user: ResolvedUser;
  readonly mounts: ResolvedMounts;
  readonly prepared: PreparedMounts;
  readonly devices: ResolvedDevices;
  /** PID namespace to join (pod's infra or target), undefined for a new one or the node's. */
  readonly pidNamespacePath: string | undefined;
  readonly seccomp: SeccompChoice;
  /** Name of a loaded profile; undefined for none. */
  readonly apparmorProfile: string | undefined;
  readonly processLabel: string;
  readonly mountLabel: string;
  /** `platform_runtime_paths` entry in use, `` when none */
  readonly platformRuntimePath: string;
  /** Name as the request (`SIGUSR1`) or the image has it; `` when none */
  readonly stopSignal: string;
  /** OCI hooks that matched. */
  readonly hooks: Hooks | undefined;
  /** `KEY=value` that hooks of the daemon add (GOMAXPROCS, shared CPUs); they win over everything. */
  readonly extraEnv: readonly string[];
}
