import { escapeForHtml, goJson } from '../../base/go-json.ts';
import type { ContainerMount } from '../../container/config.ts';
import type { IdMapping, LinuxResources, NamespaceOptions, PortMapping } from '../../pod/config.ts';
import { writeExactIntegers } from './exact-integer.ts';

/**
 * JSON texts inside annotations, byte for byte as Go writes them (field names of the protocol, zero values left out):
 * they are the database that a restarted daemon, ours or CRI-O's, reads.
 */

/** JSON as Go's encoder writes a struct: members in the order given. */
function structJson(value: unknown): string {
  return escapeForHtml(JSON.stringify(value, writeExactIntegers));
}

/** Keys sorted; `null` stands for a map the request did not have. */
export function mapJson(map: ReadonlyMap<string, string>, empty: 'null' | '{}'): string {
  if (map.size === 0) return empty;
  return goJson(Object.fromEntries(map));
}

export function metadataJson(metadata: { name: string; uid?: string; namespace?: string; attempt: number }): string {
  const { name, uid, namespace, attempt } = metadata;
  return structJson(withoutZeros({ name, uid, namespace, attempt }));
}

export function namespaceOptionsJson(options: NamespaceOptions): string {
  const { network, pid, ipc, targetId, userns } = options;
  const mappings = (list: readonly IdMapping[]) =>
    list.map(({ hostId, containerId, size }) =>
      withoutZeros({ host_id: hostId, container_id: containerId, length: size }),
    );
  const usernsOptions =
    userns && withoutZeros({ mode: userns.mode, uids: mappings(userns.uids), gids: mappings(userns.gids) });
  return structJson(withoutZeros({ network, pid, ipc, target_id: targetId, userns_options: usernsOptions }));
}

export function portMappingsJson(mappings: readonly PortMapping[]): string {
  return structJson(
    mappings.map(({ hostPort, containerPort, protocol, hostIp }) => ({
      HostPort: hostPort,
      ContainerPort: containerPort,
      Protocol: protocol,
      HostIP: hostIp,
    })),
  );
}

export function resourcesJson(resources: LinuxResources | undefined): string {
  if (resources === undefined) return 'null';
  return structJson(
    withoutZeros({
      cpu_period: resources.cpuPeriod,
      cpu_quota: resources.cpuQuota,
      cpu_shares: resources.cpuShares,
      memory_limit_in_bytes: resources.memoryLimitBytes,
      oom_score_adj: resources.oomScoreAdj,
      cpuset_cpus: resources.cpusetCpus,
      cpuset_mems: resources.cpusetMems,
      hugepage_limits: resources.hugepageLimits.map(({ pageSize, limit }) =>
        withoutZeros({ page_size: pageSize, limit }),
      ),
      unified: resources.unified.size === 0 ? undefined : Object.fromEntries(resources.unified),
      memory_swap_limit_in_bytes: resources.memorySwapLimitBytes,
    }),
  );
}

export function volumesJson(mounts: readonly ContainerMount[]): string {
  return structJson(
    mounts.map((mount) => ({
      container_path: mount.containerPath,
      host_path: mount.hostPath,
      readonly: mount.readonly,
      recursive_read_only: mount.recursiveReadOnly,
      propagation: mount.propagation,
      selinux_relabel: mount.selinuxRelabel,
      ...(mount.image === undefined ? {} : { image: { image: mount.image } }),
    })),
  );
}

/** RFC 3339 in UTC with up to nine digits of a second, trailing zeros left out (Go's RFC3339Nano). */
export function rfc3339Nano(timeNs: bigint): string {
  const seconds = timeNs / 1_000_000_000n;
  const fraction = (timeNs % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '');
  const date = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return `${date}${fraction === '' ? '' : `.${fraction}`}Z`;
}

function withoutZeros(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => !isZero(value)));
}

function isZero(value: unknown): boolean {
  if (value === undefined || value === 0 || value === 0n || value === '' || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return false;
}
