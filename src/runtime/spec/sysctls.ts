import { type IdMapping, NamespaceMode, type NamespaceOptions } from '../../pod/config.ts';

export interface SysctlChoice {
  readonly sysctls: ReadonlyMap<string, string>;
  /** One per sysctl that was left out. */
  readonly warnings: readonly string[];
}

export interface SysctlRequest {
  /** `key=value` */
  readonly defaults: readonly string[];
  /** The pod's; they win. */
  readonly requested: ReadonlyMap<string, string>;
  readonly namespaces: NamespaceOptions;
  /** Empty without a user namespace. */
  readonly gidMap: readonly IdMapping[];
}

/**
 * The sysctls that may be set for a pod: only those of a namespace it owns. Everything else would change the node
 * (CVE-2022-0532), and is left out with a warning, as CRI-O does.
 */
export function chooseSysctls(request: SysctlRequest): SysctlChoice {
  const sysctls = new Map<string, string>();
  const warnings: string[] = [];
  for (const [key, value] of [...request.defaults.flatMap(parseEntry), ...request.requested]) {
    const reason = refusal(key, value, request.namespaces);
    if (reason === undefined) sysctls.set(key, clipPingRange(key, value, request.gidMap));
    else warnings.push(`sysctl "${key}=${value}" is left out: ${reason}`);
  }
  return { sysctls, warnings };
}

function refusal(key: string, value: string, namespaces: NamespaceOptions): string | undefined {
  // `/` stands for a dot inside a name (`eth0/100`): between words only, so that no form of the key climbs a path
  if (!/^\w[\w-]*([./][\w-]+)+$/.test(key)) return 'its name is not valid';
  // CVE-2022-0811: nothing that a helper or a file format could take for a separator gets through
  if (/[+\u0000-\u0008\u000a-\u001f\u007f]/.test(value)) return 'its value holds a separator';
  const owner = namespaceOf(key);
  if (owner === undefined) return 'it does not belong to a namespace';
  return namespaces[owner] === NamespaceMode.node ? `the pod uses the ${owner} namespace of the host` : undefined;
}

function namespaceOf(key: string): 'ipc' | 'network' | undefined {
  if (key.startsWith('net.')) return 'network';
  if (
    key === 'kernel.sem' ||
    key.startsWith('kernel.shm') ||
    key.startsWith('kernel.msg') ||
    key.startsWith('fs.mqueue.')
  )
    return 'ipc';
  return undefined;
}

/** The kernel refuses group ids that the user namespace does not map. */
function clipPingRange(key: string, value: string, gidMap: readonly IdMapping[]): string {
  if (key !== 'net.ipv4.ping_group_range' || value !== '0 2147483647' || gidMap.length === 0) return value;
  let end = 0;
  for (const { containerId, size } of gidMap.toSorted((a, b) => a.containerId - b.containerId)) {
    if (containerId <= end) end = Math.max(end, containerId + size);
  }
  return `0 ${Math.max(0, end - 1)}`;
}

function parseEntry(entry: string): [string, string][] {
  const at = entry.indexOf('=');
  return at <= 0 ? [] : [[entry.slice(0, at), entry.slice(at + 1)]];
}
