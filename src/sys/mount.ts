import { closeSync, readFileSync } from 'node:fs';
import { AT_FDCWD, bind, bindAsync, bindSyscall, cPath, invoke } from './libc.ts';
import type { Path, Pointer } from './libc.ts';
import { SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_mount_setattr, SYS_move_mount, SYS_open_tree } from './arch.ts';

// linux/mount.h
export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_SYNCHRONOUS = 16;
export const MS_REMOUNT = 32;
export const MS_DIRSYNC = 128;
export const MS_NOSYMFOLLOW = 256;
export const MS_NOATIME = 1024;
export const MS_NODIRATIME = 2048;
export const MS_BIND = 4096;
export const MS_MOVE = 8192;
export const MS_REC = 16384;
export const MS_UNBINDABLE = 1 << 17;
export const MS_PRIVATE = 1 << 18;
export const MS_SLAVE = 1 << 19;
export const MS_SHARED = 1 << 20;
export const MS_RELATIME = 1 << 21;
export const MS_STRICTATIME = 1 << 24;
export const MS_LAZYTIME = 1 << 25;

export const MNT_FORCE = 1;
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;

export const OPEN_TREE_CLONE = 1;
export const OPEN_TREE_CLOEXEC = 0o2000000;
export const AT_RECURSIVE = 0x8000;
export const AT_EMPTY_PATH = 0x1000;
export const MOVE_MOUNT_F_EMPTY_PATH = 4;
export const MOVE_MOUNT_T_EMPTY_PATH = 0x40;
export const MOUNT_ATTR_RDONLY = 1;
export const MOUNT_ATTR_NOSUID = 2;
export const MOUNT_ATTR_NODEV = 4;
export const MOUNT_ATTR_NOEXEC = 8;
export const MOUNT_ATTR_IDMAP = 0x100000;

const c = {
  mount: bind<(source: CText, target: CText, fsType: CText, flags: number, data: CText | null) => number>(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  ),
  umount2: bind<(target: CText, flags: number) => number>('int umount2(const char *target, int flags)'),
  openTree: bindSyscall<(number: number, dirFd: number, path: CText, flags: number) => number>([
    'int',
    'const char *',
    'uint',
  ]),
  moveMount: bindSyscall<
    (number: number, fromFd: number, from: CText, toFd: number, to: CText, flags: number) => number
  >(['int', 'const char *', 'int', 'const char *', 'uint']),
  fsopen: bindSyscall<(number: number, type: string, flags: number) => number>(['const char *', 'uint']),
  fsconfig: bindSyscall<
    (number: number, fd: number, command: number, key: string | null, value: string | null, aux: number) => number
  >(['int', 'uint', 'const char *', 'const char *', 'int']),
  fsmount: bindSyscall<(number: number, fd: number, flags: number, attributes: number) => number>([
    'int',
    'uint',
    'uint',
  ]),
  mountSetattr: bindSyscall<
    (number: number, dirFd: number, path: CText, flags: number, attr: Pointer, size: number) => number
  >(['int', 'const char *', 'uint', 'void *', 'size_t']),
};
type CText = string | Uint8Array;

const mountOnPool = bindAsync<[CText, CText, string, number, CText | null]>(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
);
const umount2Async = bindAsync<[string | Uint8Array, number]>('int umount2(const char *target, int flags)');

/** mount(2). `data` is the comma-separated options of the file system, at most one page. */
export function mount(source: Path, target: Path, fsType: string, flags: number, data?: string): void {
  const from = cPath(source, 'mount');
  const to = cPath(target, 'mount');
  const options = data === undefined ? null : cPath(data, 'mount');
  invoke('mount', target, () => c.mount(from, to, fsType, flags, options));
}

/** mount(2) on the thread pool, for file systems whose mount writes to a disk. `target` must be absolute. */
export async function mountAsync(
  source: Path,
  target: Path,
  fsType: string,
  flags: number,
  data?: string,
): Promise<void> {
  const options = data === undefined ? null : cPath(data, 'mount');
  await mountOnPool('mount', target, cPath(source, 'mount'), cPath(target, 'mount'), fsType, flags, options);
}

/** umount2(2). Throws EINVAL when `target` is no mount point, ENOENT when it does not exist. */
export function umount(target: Path, flags = 0): void {
  const path = cPath(target, 'umount');
  invoke('umount', target, () => c.umount2(path, flags));
}

/** umount2(2) on the thread pool. What may hang (a dead network mount) needs a process of its own instead. */
export async function umountAsync(target: Path, flags = 0): Promise<void> {
  await umount2Async('umount', target, cPath(target, 'umount'), flags);
}

/** open_tree(2); the descriptor is close-on-exec. With `OPEN_TREE_CLONE` it is a detached copy of the mount. */
export function openTree(dirFd: number | undefined, path: Path, flags: number): number {
  const name = cPath(path, 'open_tree');
  return invoke('open_tree', path, () => c.openTree(SYS_open_tree, dirFd ?? AT_FDCWD, name, flags | OPEN_TREE_CLOEXEC));
}

/** move_mount(2): attaches the tree at `fromFd` to `to` (resolved from `toFd`, `undefined` is the current directory). */
export function moveMount(fromFd: number, toFd: number | undefined, to: Path): void {
  const name = cPath(to, 'move_mount');
  const flags = MOVE_MOUNT_F_EMPTY_PATH | (to.length === 0 ? MOVE_MOUNT_T_EMPTY_PATH : 0);
  invoke('move_mount', to, () => c.moveMount(SYS_move_mount, fromFd, '', toFd ?? AT_FDCWD, name, flags));
}

const FSOPEN_CLOEXEC = 1;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const FSMOUNT_CLOEXEC = 1;

/**
 * A tmpfs that is mounted nowhere: fsopen(2), fsmount(2), Linux 5.2. The descriptor of its root is all there is, and the
 * tmpfs ends with it. Other processes of root reach it as /proc/<pid>/fd/<fd>.
 */
export function createDetachedTmpfs(sizeBytes: number): number {
  const fs = invoke('fsopen', 'tmpfs', () => c.fsopen(SYS_fsopen, 'tmpfs', FSOPEN_CLOEXEC));
  try {
    const set = (command: number, key: string | null, value: string | null) =>
      invoke('fsconfig', 'tmpfs', () => c.fsconfig(SYS_fsconfig, fs, command, key, value, 0));
    set(FSCONFIG_SET_STRING, 'size', String(sizeBytes));
    set(FSCONFIG_SET_STRING, 'mode', '0700');
    set(FSCONFIG_CMD_CREATE, null, null);
    const attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    return invoke('fsmount', 'tmpfs', () => c.fsmount(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes));
  } finally {
    closeSync(fs);
  }
}

export interface MountAttributes {
  /** `MOUNT_ATTR_*` to set and to clear. */
  readonly set?: number;
  readonly clear?: number;
  /** MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE */
  readonly propagation?: number;
  /** User namespace of an id-mapped mount, with MOUNT_ATTR_IDMAP in `set`. */
  readonly userNamespaceFd?: number;
  readonly recursive?: boolean;
}

/** mount_setattr(2) on a path, or with an empty path on the descriptor itself. ENOSYS before Linux 5.12. */
export function mountSetattr(dirFd: number | undefined, path: Path, attributes: MountAttributes): void {
  const name = cPath(path, 'mount_setattr');
  const attr = Buffer.alloc(32);
  attr.writeBigUInt64LE(BigInt(attributes.set ?? 0), 0);
  attr.writeBigUInt64LE(BigInt(attributes.clear ?? 0), 8);
  attr.writeBigUInt64LE(BigInt(attributes.propagation ?? 0), 16);
  attr.writeBigUInt64LE(BigInt(attributes.userNamespaceFd ?? 0), 24);
  const flags = (path.length === 0 ? AT_EMPTY_PATH : 0) | (attributes.recursive === true ? AT_RECURSIVE : 0);
  invoke('mount_setattr', path, () =>
    c.mountSetattr(SYS_mount_setattr, dirFd ?? AT_FDCWD, name, flags, attr, attr.length),
  );
}

/** One line of /proc/<pid>/mountinfo, proc_pid_mountinfo(5). */
export interface MountInfo {
  readonly id: number;
  readonly parent: number;
  /** `8:1` */
  readonly majorMinor: string;
  /** The part of the file system that is mounted. */
  readonly root: string;
  readonly mountPoint: string;
  /** Per-mount options, such as `rw,nosuid`. */
  readonly options: string;
  /** `shared:1`, `master:2`, ... */
  readonly optional: readonly string[];
  readonly fsType: string;
  readonly source: string;
  readonly superOptions: string;
}

/** The mounts that a process sees; ENOENT when it is gone. */
export function readMountInfo(pid: number | 'self' = 'self'): MountInfo[] {
  return parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
}

export function parseMountInfo(text: string): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split('\n')) {
    const mount = parseLine(line);
    if (mount !== undefined) mounts.push(mount);
  }
  return mounts;
}

function parseLine(line: string): MountInfo | undefined {
  const fields = line.split(' ');
  const separator = fields.indexOf('-', 6);
  const [id, parent, majorMinor, root, mountPoint, options] = fields;
  const [fsType, source, superOptions] = fields.slice(separator + 1);
  if (separator < 0 || majorMinor === undefined || root === undefined || mountPoint === undefined) return undefined;
  if (options === undefined || fsType === undefined || source === undefined) return undefined;
  return {
    id: Number(id),
    parent: Number(parent),
    majorMinor,
    root: unescape(root),
    mountPoint: unescape(mountPoint),
    options,
    optional: fields.slice(6, separator),
    fsType: unescape(fsType),
    source: unescape(source),
    superOptions: superOptions ?? '',
  };
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescape(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
