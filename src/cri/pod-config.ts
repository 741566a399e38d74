import { CrioError } from '../base/errors.ts';
import {
  NamespaceMode,
  type IdMapping,
  type LinuxResources,
  type NamespaceOptions,
  type PodConfig,
  type PodSecurityContext,
  type PortMapping,
  type SecurityProfile,
  type SelinuxOptions,
} from '../pod/config.ts';
import { exactNumber, knownValue, required, toMap } from './checked.ts';
import type * as cri from './gen/api_pb.ts';

const namespaceModes = Object.values(NamespaceMode);
const protocols = ['TCP', 'UDP', 'SCTP'] as const;
const profileTypes = ['runtime-default', 'unconfined', 'localhost'] as const;
const groupPolicies = ['merge', 'strict'] as const;
/** Linux user and group ids; 2^32 - 1 means "no change" to the kernel and is never an id (CVE-2024-40635). */
const maxId = 0xffff_fffe;

/** A checked copy of the CRI message, with the error texts of CRI-O for what is missing. */
export function toPodConfig(config: cri.PodSandboxConfig | undefined): PodConfig {
  const { metadata, linux, dnsConfig, ...rest } = required(config, 'PodSandboxConfig is nil');
  const { name, uid, namespace, attempt } = required(metadata, 'PodSandboxConfig.Metadata is nil');
  if (name === '') throw new CrioError('invalid', 'metadata.Name should not be empty');
  if (namespace === '') throw new CrioError('invalid', 'cannot generate pod name without namespace');
  if (uid === '') throw new CrioError('invalid', 'cannot generate pod name without uid in metadata');
  return {
    metadata: { name, uid, namespace, attempt },
    hostname: rest.hostname,
    logDirectory: rest.logDirectory,
    dns: {
      servers: dnsConfig?.servers ?? [],
      searches: dnsConfig?.searches ?? [],
      options: dnsConfig?.options ?? [],
    },
    portMappings: rest.portMappings.map(toPortMapping),
    labels: toMap(rest.labels),
    annotations: toMap(rest.annotations),
    cgroupParent: linux?.cgroupParent ?? '',
    securityContext: linux?.securityContext === undefined ? undefined : toSecurityContext(linux.securityContext),
    sysctls: toMap(linux?.sysctls ?? {}),
    overhead: linux?.overhead === undefined ? undefined : toResources(linux.overhead),
    resources: linux?.resources === undefined ? undefined : toResources(linux.resources),
  };
}

function toPortMapping(mapping: cri.PortMapping): PortMapping {
  return {
    protocol: required(protocols[mapping.protocol], `port mapping: unknown protocol ${mapping.protocol}`),
    containerPort: toPort(mapping.containerPort, 'container_port'),
    hostPort: toPort(mapping.hostPort, 'host_port'),
    hostIp: mapping.hostIp,
  };
}

function toPort(port: number, field: string): number {
  if (port < 0 || port > 65_535) throw new CrioError('invalid', `port mapping: ${field} ${port} is out of range`);
  return port;
}

function toSecurityContext(context: cri.LinuxSandboxSecurityContext): PodSecurityContext {
  return {
    namespaceOptions: context.namespaceOptions === undefined ? undefined : toNamespaceOptions(context.namespaceOptions),
    selinux: toSelinux(context.selinuxOptions),
    runAsUser: toOptionalId(context.runAsUser, 'run_as_user'),
    runAsGroup: toOptionalId(context.runAsGroup, 'run_as_group'),
    readonlyRootfs: context.readonlyRootfs,
    supplementalGroups: toGroups(context.supplementalGroups),
    supplementalGroupsPolicy: toGroupsPolicy(context.supplementalGroupsPolicy),
    privileged: context.privileged,
    seccomp: toSecurityProfile(context.seccomp),
    apparmor: toSecurityProfile(context.apparmor),
  };
}

export function toNamespaceOptions(options: cri.NamespaceOption): NamespaceOptions {
  const userns = options.usernsOptions;
  return {
    network: knownValue(options.network, namespaceModes, 'namespace_options.network'),
    pid: knownValue(options.pid, namespaceModes, 'namespace_options.pid'),
    ipc: knownValue(options.ipc, namespaceModes, 'namespace_options.ipc'),
    targetId: options.targetId,
    userns:
      userns === undefined
        ? undefined
        : {
            mode: knownValue(userns.mode, namespaceModes, 'userns_options.mode'),
            uids: userns.uids.map(toIdMapping),
            gids: userns.gids.map(toIdMapping),
          },
  };
}

export function toIdMapping(mapping: cri.IDMapping): IdMapping {
  return { containerId: mapping.containerId, hostId: mapping.hostId, size: mapping.length };
}

export function toSelinux(options: cri.SELinuxOption | undefined): SelinuxOptions | undefined {
  if (options === undefined) return undefined;
  return { user: options.user, role: options.role, type: options.type, level: options.level };
}

export function toSecurityProfile(profile: cri.SecurityProfile | undefined): SecurityProfile | undefined {
  if (profile === undefined) return undefined;
  const type = required(profileTypes[profile.profileType], `security profile: unknown type ${profile.profileType}`);
  return { type, localhostRef: profile.localhostRef };
}

export function toGroupsPolicy(policy: cri.SupplementalGroupsPolicy): 'merge' | 'strict' {
  return required(groupPolicies[policy], `supplemental_groups_policy: unknown value ${policy}`);
}

/** CVE-2022-2995, CVE-2024-40635: an id that the kernel would cut to another one is refused. */
export function toOptionalId(value: cri.Int64Value | undefined, field: string): number | undefined {
  return value === undefined ? undefined : toId(value.value, field);
}

export function toGroups(groups: readonly bigint[]): readonly number[] {
  return groups.map((group) => toId(group, 'supplemental_groups'));
}

function toId(value: bigint, field: string): number {
  const id = exactNumber(value, field);
  if (id < 0 || id > maxId) throw new CrioError('invalid', `${field}: ${id} is not a valid id`);
  return id;
}

export function toResources(resources: cri.LinuxContainerResources): LinuxResources {
  return {
    cpuPeriod: exactNumber(resources.cpuPeriod, 'cpu_period'),
    cpuQuota: exactNumber(resources.cpuQuota, 'cpu_quota'),
    cpuShares: exactNumber(resources.cpuShares, 'cpu_shares'),
    memoryLimitBytes: exactNumber(resources.memoryLimitInBytes, 'memory_limit_in_bytes'),
    oomScoreAdj: exactNumber(resources.oomScoreAdj, 'oom_score_adj'),
    cpusetCpus: resources.cpusetCpus,
    cpusetMems: resources.cpusetMems,
    hugepageLimits: resources.hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit })),
    unified: toMap(resources.unified),
    memorySwapLimitBytes: exactNumber(resources.memorySwapLimitInBytes, 'memory_swap_limit_in_bytes'),
  };
}
