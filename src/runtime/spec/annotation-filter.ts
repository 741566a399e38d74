import { allowableAnnotations } from '../../config/allowed-annotations.ts';

/** Annotations that change how a container runs: users may only set those that the handler or workload lists. */

/** Name with the domain of today, and the name it had before. */
const renamed: ReadonlyMap<string, string> = new Map([
  ['userns-mode.crio.io', 'io.kubernetes.cri-o.userns-mode'],
  ['cgroup2-mount-hierarchy-rw.crio.io', 'io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw'],
  ['unified-cgroup.crio.io', 'io.kubernetes.cri-o.UnifiedCgroup'],
  ['devices.crio.io', 'io.kubernetes.cri-o.Devices'],
  ['shm-size.crio.io', 'io.kubernetes.cri-o.ShmSize'],
  ['umask.crio.io', 'io.kubernetes.cri-o.umask'],
  ['try-skip-volume-selinux-label.crio.io', 'io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel'],
  ['disable-fips.crio.io', 'io.kubernetes.cri-o.DisableFIPS'],
  ['seccomp-profile.crio.io', 'seccomp-profile.kubernetes.cri-o.io'],
  ['seccomp-notifier-action.crio.io', 'io.kubernetes.cri-o.seccompNotifierAction'],
  ['link-logs.crio.io', 'io.kubernetes.cri-o.LinkLogs'],
  ['platform-runtime-path.crio.io', 'io.kubernetes.cri-o.PlatformRuntimePath'],
  ['pod-linux-overhead.crio.io', 'io.kubernetes.cri-o.PodLinuxOverhead'],
  ['pod-linux-resources.crio.io', 'io.kubernetes.cri-o.PodLinuxResources'],
  ['spoofed.crio.io', 'io.kubernetes.cri-o.Spoofed'],
]);

/**
 * Never taken from a user, allowed or not: crun loads the filter in this annotation instead of the profile, so it would
 * switch seccomp off.
 */
const neverAllowed = ['run.oci.seccomp'];

/**
 * The annotations that are left when the control annotations that `allowed` does not list are removed. A name covers all
 * keys that start with it.
 */
export function filterAnnotations(
  annotations: ReadonlyMap<string, string>,
  allowed: readonly string[],
): Map<string, string> {
  const forbidden = [...neverAllowed, ...[...allowableAnnotations].filter((name) => !allowed.includes(name))];
  return new Map([...annotations].filter(([key]) => !forbidden.some((name) => key.startsWith(name))));
}

/**
 * Value of a control annotation by its name of today; the old name counts too, the new one wins.
 * With `container`, the form for that container (`<name>/<container>`, old names also `<name>.<container>`) wins over the plain one.
 */
export function controlAnnotation(
  annotations: ReadonlyMap<string, string>,
  name: string,
  container?: string,
): string | undefined {
  const old = renamed.get(name);
  const keys = container === undefined ? [] : [`${name}/${container}`];
  if (container !== undefined && old !== undefined) keys.push(`${old}/${container}`, `${old}.${container}`);
  keys.push(name);
  if (old !== undefined) keys.push(old);
  return keys.map((key) => annotations.get(key)).find((value) => value !== undefined);
}
