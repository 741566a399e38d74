import type { Seccomp, Spec } from '../runtime/spec/oci.ts';

/** More different profiles at a time than nodes have; beyond it sharing begins anew. */
const maxProfiles = 64;

const profiles = new Map<string, Seccomp>();

/**
 * Makes containers with the same seccomp section hold one copy of it: it is four fifths of a spec in memory. The
 * section is never changed after the spec was computed.
 */
export function shareSeccomp(spec: Spec): void {
  const own = spec.linux?.seccomp;
  if (spec.linux === undefined || own === undefined) return;
  const key = JSON.stringify(own, bigintAsText);
  const known = profiles.get(key);
  if (known !== undefined) {
    spec.linux.seccomp = known;
    return;
  }
  if (profiles.size >= maxProfiles) profiles.clear();
  profiles.set(key, own);
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}
