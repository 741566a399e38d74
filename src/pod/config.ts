/** What RunPodSandbox asks for, in own words: `cri/` copies it from the checked CRI message. */

/** Numbers as in CRI's NamespaceMode; they are written to disk as numbers. */
export const NamespaceMode = { pod: 0, container: 1, node: 2, target: 3 } as const;
export type NamespaceMode = (typeof NamespaceMode)[keyof typeof NamespaceMode];

export interface IdMapping {
  readonly containerId: number;
  readonly hostId: number;
  readonly size: number;
}

export interface NamespaceOptions {
  readonly network: NamespaceMode;
  readonly pid: NamespaceMode;
  readonly ipc: NamespaceMode;
  /** Container whose PID namespace is joined; only with pid = target. */
  readonly targetId: string;
  readonly userns:
    | { readonly mode: NamespaceMode; readonly uids: readonly IdMapping[]; readonly gids: readonly IdMapping[] }
    | undefined;
}

export interface PodMetadata {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly attempt: number;
}

export interface SelinuxOptions {
  readonly user: string;
  readonly role: string;
  readonly type: string;
  readonly level: string;
}

/** Numbers of CRI's SecurityProfile.ProfileType by name. */
export interface SecurityProfile {
  readonly type: 'runtime-default' | 'unconfined' | 'localhost';
  readonly localhostRef: string;
}

export interface PortMapping {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly containerPort: number;
  readonly hostPort: number;
  readonly hostIp: string;
}

export interface PodSecurityContext {
  readonly namespaceOptions: NamespaceOptions | undefined;
  readonly selinux: SelinuxOptions | undefined;
  readonly runAsUser: number | undefined;
  readonly runAsGroup: number | undefined;
  readonly readonlyRootfs: boolean;
  readonly supplementalGroups: readonly number[];
  readonly supplementalGroupsPolicy: 'merge' | 'strict';
  readonly privileged: boolean;
  readonly seccomp: SecurityProfile | undefined;
  readonly apparmor: SecurityProfile | undefined;
}

/** Linux resources as CRI sends them. Bytes, microseconds and counts are exact integers; 0 means "not set". */
export interface LinuxResources {
  readonly cpuPeriod: number;
  readonly cpuQuota: number;
  readonly cpuShares: number;
  readonly memoryLimitBytes: number;
  readonly oomScoreAdj: number;
  readonly cpusetCpus: string;
  readonly cpusetMems: string;
  readonly hugepageLimits: readonly { readonly pageSize: string; readonly limit: bigint }[];
  readonly unified: ReadonlyMap<string, string>;
  readonly memorySwapLimitBytes: number;
}

export interface PodConfig {
  readonly metadata: PodMetadata;
  readonly hostname: string;
  readonly logDirectory: string;
  readonly dns: {
    readonly servers: readonly string[];
    readonly searches: readonly string[];
    readonly options: readonly string[];
  };
  readonly portMappings: readonly PortMapping[];
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly cgroupParent: string;
  /** Undefined when the request had none: defaults differ from an empty one (cri-behaviour 4). */
  readonly securityContext: PodSecurityContext | undefined;
  readonly sysctls: ReadonlyMap<string, string>;
  readonly overhead: LinuxResources | undefined;
  readonly resources: LinuxResources | undefined;
}
