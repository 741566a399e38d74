import { readFileSync } from 'node:fs';

/** `hybrid`: controllers in v1 hierarchies, and a cgroup2 mount beside them that may own a controller of its own. */
export type CgroupVersion = 'v1' | 'hybrid' | 'v2';

/** Where the cgroup hierarchies of this host are mounted. */
export interface Hierarchies {
  readonly version: CgroupVersion;
  /** Mount point by controller; on v1 also `name=systemd` and other named ones, on v2 every controller maps to the one mount. */
  readonly controllers: ReadonlyMap<string, string>;
  /** Every directory tree a container's cgroup is made in: all v1 hierarchies, or the one of v2. */
  readonly roots: readonly string[];
  /** The cgroup2 mount; undefined when there is none. */
  readonly unified: string | undefined;
}

/** The fields of a mountinfo line that matter here. */
export interface CgroupMount {
  readonly mountPoint: string;
  readonly fsType: string;
  readonly superOptions: string;
}

/** v1 mount options that are no controller names (cgroups(7), kernel's cgroup-v1 documentation). */
const mountFlags = new Set([
  'rw',
  'ro',
  'all',
  'none',
  'noprefix',
  'clone_children',
  'cpuset_v2_mode',
  'xattr',
  'favordynmods',
  'nofavordynmods',
]);

/** Reads where cgroups are mounted in this mount namespace. Throws when there are none. */
export function readHierarchies(): Hierarchies {
  const mounts = parseCgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
  return planHierarchies(mounts, (unified) => readFileSync(`${unified}/cgroup.controllers`, 'utf8'));
}

/** The cgroup lines of a mountinfo file (proc_pid_mountinfo(5)); other and malformed lines are left out. */
export function parseCgroupMounts(mountInfo: string): CgroupMount[] {
  const mounts: CgroupMount[] = [];
  for (const line of mountInfo.split('\n')) {
    const separator = line.indexOf(' - cgroup');
    if (separator < 0) continue;
    const [fsType, , superOptions] = line.slice(separator + 3).split(' ');
    const mountPoint = line.slice(0, separator).split(' ')[4];
    if (fsType !== 'cgroup' && fsType !== 'cgroup2') continue;
    if (mountPoint === undefined || superOptions === undefined) continue;
    mounts.push({ mountPoint: unescapeOctal(mountPoint), fsType, superOptions });
  }
  return mounts;
}

/** Sorts mounts into hierarchies. A hierarchy mounted twice counts once, at its first place. */
export function planHierarchies(
  mounts: readonly CgroupMount[],
  readControllers: (unified: string) => string,
): Hierarchies {
  const unified = mounts.find((mount) => mount.fsType === 'cgroup2')?.mountPoint;
  const controllers = new Map<string, string>();
  for (const mount of mounts) {
    if (mount.fsType !== 'cgroup') continue;
    for (const name of controllerNames(mount.superOptions)) {
      if (!controllers.has(name)) controllers.set(name, mount.mountPoint);
    }
  }
  if (controllers.size > 0) {
    const version = unified === undefined ? 'v1' : 'hybrid';
    return { version, controllers, roots: [...new Set(controllers.values())], unified };
  }
  if (unified === undefined) throw new Error('find cgroup mounts: neither cgroup nor cgroup2 is mounted');
  for (const name of words(readControllers(unified))) controllers.set(name, unified);
  return { version: 'v2', controllers, roots: [unified], unified };
}

function controllerNames(superOptions: string): string[] {
  return superOptions
    .split(',')
    .filter((option) => option !== '' && !mountFlags.has(option) && !option.startsWith('release_agent='));
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

/** mountinfo writes space, tab, newline and backslash as three octal digits. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
