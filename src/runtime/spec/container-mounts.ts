import { bind, type Draft, hasMount, putMount } from './draft.ts';
import { controlAnnotation } from './annotation-filter.ts';
import type { ContainerSpecInput } from './input.ts';
import type { Mount } from './oci.ts';

/** The mounts of a container, in the order of the table "Mount order" (cri-behaviour 5). */

/** Row 1: template mounts that the request replaces go, with all below /dev or /sys when it brings that itself. */
export function dropReplacedTemplates(draft: Draft, requested: ReadonlySet<string>): void {
  draft.mounts = draft.mounts.filter(
    ({ destination }) =>
      !requested.has(destination) &&
      !(requested.has('/dev') && destination.startsWith('/dev/')) &&
      !(requested.has('/sys') && destination.startsWith('/sys/')),
  );
}

/** Row 1: `crio.runtime.read_only` leaves the usual scratch folders writable where the request mounts nothing. */
export function addReadOnlyScratch(draft: Draft, requested: ReadonlySet<string>): void {
  const modes = { '/run': 'mode=0755', '/tmp': 'mode=1777', '/var/tmp': 'mode=1777' };
  for (const [destination, mode] of Object.entries(modes)) {
    if (requested.has(destination)) continue;
    const options = ['rw', 'noexec', 'nosuid', 'nodev', 'tmpcopyup', mode];
    putMount(draft, { destination, type: 'tmpfs', source: 'tmpfs', options });
  }
}

/** Rows 3 and 4. */
export function addSystemMounts(draft: Draft, input: ContainerSpecInput, requested: ReadonlySet<string>): void {
  if (requested.has('/sys')) return;
  const isPrivileged = input.config.securityContext?.privileged === true;
  if (!requested.has('/sys/fs/cgroup')) putMount(draft, cgroupMount(cgroupAccess(input)));
  if (isPrivileged) {
    putMount(draft, {
      destination: '/sys',
      type: 'sysfs',
      source: 'sysfs',
      options: ['nosuid', 'noexec', 'nodev', 'rw', 'rslave'],
    });
    putMount(draft, cgroupMount('rw', 'rslave'));
    return;
  }
  if (!input.pod.hostNetwork) return;
  // the kernel refuses a new sysfs to a user namespace that does not own the network namespace
  const inUserns = input.pod.namespacePaths.has('user');
  const sys = inUserns
    ? bind('/sys', '/sys', 'rbind', 'rro', 'rprivate', 'nosuid', 'noexec', 'nodev')
    : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] };
  putMount(draft, sys);
  putMount(draft, cgroupMount(cgroupAccess(input)));
}

function cgroupAccess(input: ContainerSpecInput): 'ro' | 'rw' {
  const wanted = controlAnnotation(input.pod.annotations, 'cgroup2-mount-hierarchy-rw.crio.io') === 'true';
  return wanted && input.host.cgroupV2 ? 'rw' : 'ro';
}

function cgroupMount(...access: string[]): Mount {
  return {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: ['nosuid', 'noexec', 'nodev', 'relatime', ...access],
  };
}

/** Row 5: what the pod shares with its containers. */
export function addPodFiles(draft: Draft, input: ContainerSpecInput, requested: ReadonlySet<string>): void {
  const { pod } = input;
  const access = draft.root.readonly === true ? 'ro' : 'rw';
  putMount(draft, bind(pod.shmPath, '/dev/shm', 'rw', 'bind'));
  if (pod.resolvPath !== '')
    putMount(draft, bind(pod.resolvPath, '/etc/resolv.conf', access, 'bind', 'nodev', 'nosuid', 'noexec'));
  if (pod.hostnamePath !== '') putMount(draft, bind(pod.hostnamePath, '/etc/hostname', access, 'bind'));
  if (pod.containerEnvPath !== '') putMount(draft, bind(pod.containerEnvPath, '/run/.containerenv', access, 'bind'));
  if (pod.hostNetwork && !requested.has('/etc/hosts'))
    putMount(draft, bind('/etc/hosts', '/etc/hosts', access, 'bind'));
}

/** A privileged container may write to everything the daemon mounted so far. */
export function makeWritable(draft: Draft): void {
  for (const mount of draft.mounts) {
    if (mount.options?.includes('ro')) mount.options = mount.options.map((option) => (option === 'ro' ? 'rw' : option));
  }
}

/** systemd as init wants its own /run, /tmp and journal, and a cgroup tree it may write to. */
export function addSystemdMounts(draft: Draft, input: ContainerSpecInput, requested: ReadonlySet<string>): void {
  for (const destination of ['/run', '/run/lock', '/tmp', '/var/log/journal']) {
    if (hasMount(draft, destination) || requested.has(destination)) continue;
    const options = ['rw', 'rprivate', 'noexec', 'nosuid', 'nodev', 'tmpcopyup'];
    draft.mounts.push({ destination, type: 'tmpfs', source: 'tmpfs', options });
  }
  if (input.host.cgroupV2) {
    putMount(draft, { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['private', 'rw'] });
    return;
  }
  draft.linux.maskedPaths = [...(draft.linux.maskedPaths ?? []), '/sys/fs/cgroup/systemd/release_agent'];
  if (['/sys/fs/cgroup', '/sys/fs', '/sys'].some((path) => requested.has(path))) return;
  const systemd = '/sys/fs/cgroup/systemd';
  putMount(draft, bind(systemd, systemd, 'bind', 'nodev', 'noexec', 'nosuid'));
}

/** Row 6: fewer path components first, so that no mount hides another; equal ones stay in the order they were asked for. */
export function addSortedBinds(draft: Draft, binds: readonly Mount[]): void {
  for (const mount of sortByDepth(binds)) putMount(draft, mount);
}

export function sortByDepth(mounts: readonly Mount[]): Mount[] {
  return mounts.toSorted((a, b) => depth(a.destination) - depth(b.destination));
}

function depth(path: string): number {
  return path.split('/').length;
}

/** A user namespace cannot mount these afresh when their namespace is the host's: they are bound as they are. */
export function bindHostTrees(
  draft: Draft,
  hosts: { readonly network: boolean; readonly pid: boolean; readonly ipc: boolean },
): void {
  if (hosts.ipc)
    replaceInPlace(draft, bind('/dev/mqueue', '/dev/mqueue', 'rbind', 'rw', 'rprivate', 'nosuid', 'noexec', 'nodev'));
  if (hosts.network)
    replaceInPlace(draft, bind('/sys', '/sys', 'rbind', 'rro', 'rprivate', 'nosuid', 'noexec', 'nodev'));
  if (hosts.pid) replaceInPlace(draft, bind('/proc', '/proc', 'rbind', 'rw', 'rprivate', 'nosuid', 'noexec', 'nodev'));
}

/** Keeps the place: /proc has to stay in front of what lies below it. */
function replaceInPlace(draft: Draft, mount: Mount): void {
  const at = draft.mounts.findIndex(({ destination }) => destination === mount.destination);
  if (at === -1) draft.mounts.push(mount);
  else draft.mounts[at] = mount;
}
