import { CrioError } from '../../base/errors.ts';
import { capabilityNames } from '../../sys/process.ts';
import type { Capabilities } from './oci.ts';

const known: ReadonlySet<string> = new Set(capabilityNames);
const all = 'CAP_ALL';

/** `net_admin`, `NET_ADMIN` and `CAP_NET_ADMIN` are the same capability. */
export function canonicalCapability(name: string): string {
  const upper = name.toUpperCase();
  return upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
}

export interface CapabilityRequest {
  readonly privileged: boolean;
  readonly add: readonly string[];
  readonly drop: readonly string[];
  /** Canonical names given when the request speaks neither of adding nor of dropping all. */
  readonly defaults: readonly string[];
  readonly addInheritable: boolean;
  /** Canonical names the kernel knows. */
  readonly kernel: readonly string[];
  /** The daemon's bounding set: a process cannot give what it may not have. */
  readonly allowed: readonly string[];
}

/** The capability sets of a process. Throws `unknown capability "CAP_X" to add` (CRI-O's text). */
export function chooseCapabilities(request: CapabilityRequest): Capabilities {
  const allowed = new Set(request.allowed);
  if (request.privileged) {
    const full = request.kernel.filter((name) => allowed.has(name));
    return { bounding: full, effective: full, inheritable: full, permitted: full, ambient: full };
  }
  const chosen = unprivilegedSet(request).filter((name) => allowed.has(name));
  return {
    bounding: chosen,
    effective: chosen,
    // an inheritable set that is not empty hands capabilities to any program with file capabilities: CVE-2022-27652
    ...(request.addInheritable ? { inheritable: chosen } : {}),
    permitted: chosen,
  };
}

function unprivilegedSet(request: CapabilityRequest): string[] {
  const add = checked(request.add, 'add');
  const drop = checked(request.drop, 'drop');
  const wanted = new Set<string>();
  if (add.includes(all) && !drop.includes(all)) for (const name of request.kernel) wanted.add(name);
  for (const name of add) if (name !== all) wanted.add(name);
  if (!add.includes(all) && !drop.includes(all)) for (const name of request.defaults) wanted.add(name);
  for (const name of drop) wanted.delete(name);
  return [...wanted];
}

function checked(names: readonly string[], verb: 'add' | 'drop'): string[] {
  return names.map((name) => {
    const canonical = canonicalCapability(name);
    if (canonical !== all && !known.has(canonical)) {
      throw new CrioError('invalid', `unknown capability "${canonical}" to ${verb}`);
    }
    return canonical;
  });
}
