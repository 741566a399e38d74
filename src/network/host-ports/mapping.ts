import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import type { PortMapping } from '../../pod/config.ts';

export type Family = 4 | 6;

/** One port of the node that leads to a pod, for one address family. */
export interface HostPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly hostPort: number;
  /** Undefined: every address of the node. */
  readonly hostIp: string | undefined;
  readonly podIp: string;
  readonly podPort: number;
}

export interface HostPortPod {
  readonly id: string;
  readonly name: string;
  readonly ports: ReadonlyMap<Family, readonly HostPort[]>;
}

/**
 * The ports of a pod per family: mappings with a host port, to the first address of each family. `0.0.0.0` means every
 * IPv4 address, `::` every IPv6 one, an empty host address both. Pure.
 */
export function planHostPorts(mappings: readonly PortMapping[], ips: readonly string[]): Map<Family, HostPort[]> {
  const plan = new Map<Family, HostPort[]>();
  for (const family of [4, 6] as const) {
    const podIp = ips.find((ip) => isIP(ip) === family);
    if (podIp === undefined) continue;
    const ports = mappings
      .filter((mapping) => mapping.hostPort > 0 && (mapping.hostIp === '' || isIP(mapping.hostIp) === family))
      .map((mapping) => toHostPort(mapping, podIp));
    if (ports.length > 0) plan.set(family, ports);
  }
  return plan;
}

function toHostPort(mapping: PortMapping, podIp: string): HostPort {
  const isAny = mapping.hostIp === '' || mapping.hostIp === '0.0.0.0' || mapping.hostIp === '::';
  return {
    protocol: protocolNames[mapping.protocol],
    hostPort: mapping.hostPort,
    hostIp: isAny ? undefined : mapping.hostIp,
    podIp,
    podPort: mapping.containerPort,
  };
}

const protocolNames = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;

/** First 16 characters of base32(sha256(text)), upper case: names of chains and comments of elements. */
export function shortHash(text: string): string {
  const digest = createHash('sha256').update(text).digest();
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  let bits = 0n;
  // 16 characters of 5 bits are exactly 10 bytes.
  for (const byte of digest.subarray(0, 10)) bits = (bits << 8n) | BigInt(byte);
  let result = '';
  for (let shift = 75n; shift >= 0n; shift -= 5n) result += alphabet.charAt(Number((bits >> shift) & 31n));
  return result;
}
