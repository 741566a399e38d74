import { CrioError } from '../base/errors.ts';

/**
 * Names that `allowed_annotations` may list, literally: the names of today, their older aliases, and those of runtimes
 * and libraries. Two are prefixes and are listed just so.
 */
const current = [
  'userns-mode.crio.io',
  'cgroup2-mount-hierarchy-rw.crio.io',
  'unified-cgroup.crio.io',
  'devices.crio.io',
  'shm-size.crio.io',
  'umask.crio.io',
  'try-skip-volume-selinux-label.crio.io',
  'disable-fips.crio.io',
  'seccomp-profile.crio.io',
  'seccomp-notifier-action.crio.io',
  'link-logs.crio.io',
  'platform-runtime-path.crio.io',
  'pod-linux-overhead.crio.io',
  'pod-linux-resources.crio.io',
  'spoofed.crio.io',
  'cpu-load-balancing.crio.io',
  'cpu-quota.crio.io',
  'irq-load-balancing.crio.io',
  'cpu-c-states.crio.io',
  'cpu-freq-governor.crio.io',
  'cpu-shared.crio.io',
  'io.containers.trace-syscall',
  'org.opencontainers.image.stopSignal',
];

const aliases = [
  ...[
    'userns-mode',
    'cgroup2-mount-hierarchy-rw',
    'UnifiedCgroup',
    'Devices',
    'ShmSize',
    'umask',
    'TrySkipVolumeSELinuxLabel',
    'DisableFIPS',
    'seccompNotifierAction',
    'LinkLogs',
    'PlatformRuntimePath',
    'PodLinuxOverhead',
    'PodLinuxResources',
    'Spoofed',
  ].map((name) => `io.kubernetes.cri-o.${name}`),
  'seccomp-profile.kubernetes.cri-o.io',
];

const external = [
  'io.kubernetes.cri.rdt-class',
  'bundle',
  'org.systemd.property.',
  'org.criu.config',
  'module.wasm.image/variant',
  'io.kubernetes.cri.container-type',
  'run.oci.',
];

/** All names an `allowed_annotations` list may contain. */
export const allowableAnnotations: ReadonlySet<string> = new Set([...current, ...aliases, ...external]);

/** The text is CRI-O's. */
export function checkAnnotations(names: readonly string[]): void {
  for (const name of names) {
    if (!allowableAnnotations.has(name)) throw new CrioError('invalid', `invalid allowed_annotation: ${name}`);
  }
}
