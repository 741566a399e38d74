import { O_CLOEXEC, SYS_openat2 } from './arch.ts';
import { AT_FDCWD, bind, bindAsync, bindSyscall, cPath, invoke } from './libc.ts';
import type { Path, Pointer } from './libc.ts';

/**
 * Calls relative to a directory descriptor. `dirFd` undefined means the current directory. Paths may be bytes.
 * Only `openat2` with RESOLVE_* keeps a path inside: the others follow what the path says, so hand them a single name.
 */

// linux/openat2.h
export const RESOLVE_NO_XDEV = 1;
export const RESOLVE_NO_MAGICLINKS = 2;
export const RESOLVE_NO_SYMLINKS = 4;
export const RESOLVE_BENEATH = 8;
export const RESOLVE_IN_ROOT = 0x10;

// linux/fcntl.h, linux/fs.h
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

type Text = string | Uint8Array;

const c = {
  openat2: bindSyscall<(number: number, dirFd: number, path: Text, how: Pointer, size: number) => number>([
    'int',
    'const char *',
    'void *',
    'size_t',
  ]),
  mkdirat: bind<(dirFd: number, path: Text, mode: number) => number>(
    'int mkdirat(int dirfd, const char *path, uint mode)',
  ),
  mknodat: bind<(dirFd: number, path: Text, mode: number, device: bigint) => number>(
    'int mknodat(int dirfd, const char *path, uint mode, uint64_t dev)',
  ),
  symlinkat: bind<(target: Text, dirFd: number, path: Text) => number>(
    'int symlinkat(const char *target, int dirfd, const char *path)',
  ),
  linkat: bind<(oldFd: number, oldPath: Text, newFd: number, newPath: Text, flags: number) => number>(
    'int linkat(int oldfd, const char *oldpath, int newfd, const char *newpath, int flags)',
  ),
  unlinkat: bind<(dirFd: number, path: Text, flags: number) => number>(
    'int unlinkat(int dirfd, const char *path, int flags)',
  ),
  renameat2: bind<(oldFd: number, oldPath: Text, newFd: number, newPath: Text, flags: number) => number>(
    'int renameat2(int oldfd, const char *oldpath, int newfd, const char *newpath, uint flags)',
  ),
  fchownat: bind<(dirFd: number, path: Text, uid: number, gid: number, flags: number) => number>(
    'int fchownat(int dirfd, const char *path, uint uid, uint gid, int flags)',
  ),
  fchmodat: bind<(dirFd: number, path: Text, mode: number, flags: number) => number>(
    'int fchmodat(int dirfd, const char *path, uint mode, int flags)',
  ),
  utimensat: bind<(dirFd: number, path: Text, times: Pointer, flags: number) => number>(
    'int utimensat(int dirfd, const char *path, void *times, int flags)',
  ),
  readlinkat: bind<(dirFd: number, path: Text, buffer: Pointer, size: number) => number>(
    'intptr_t readlinkat(int dirfd, const char *path, void *buf, size_t size)',
  ),
  statx: bind<(dirFd: number, path: Text, flags: number, mask: number, buffer: Pointer) => number>(
    'int statx(int dirfd, const char *path, int flags, uint mask, void *buf)',
  ),
  syncfs: bind<(fd: number) => number>('int syncfs(int fd)'),
};

const syncfsOnPool = bindAsync<[number]>('int syncfs(int fd)');

export interface OpenHow {
  /** O_* of arch.ts; O_CLOEXEC is always added. */
  readonly flags: number;
  /** Permissions of a created file; 0 otherwise. */
  readonly mode?: number;
  /** RESOLVE_* */
  readonly resolve?: number;
}

/** Used again by every call: they are synchronous, and unpacking makes tens of thousands. */
const openHow = Buffer.alloc(24);
const timespecs = Buffer.alloc(32);

/** openat2(2), Linux 5.6. EXDEV or ELOOP when the path leaves what `resolve` allows. */
export function openat2(dirFd: number | undefined, path: Path, how: OpenHow): number {
  const name = cPath(path, 'openat2');
  // Three 64-bit numbers whose upper halves are always zero.
  const data = openHow;
  data.writeUInt32LE((how.flags | O_CLOEXEC) >>> 0, 0);
  data.writeUInt32LE(how.mode ?? 0, 8);
  data.writeUInt32LE(how.resolve ?? 0, 16);
  // EAGAIN: something was renamed or mounted while the kernel walked; the path is simply tried again.
  for (let attempt = 0; ; attempt++) {
    try {
      return invoke('openat2', path, () => c.openat2(SYS_openat2, dirFd ?? AT_FDCWD, name, data, data.length));
    } catch (error) {
      if (attempt >= 32 || !isAgain(error)) throw error;
    }
  }
}

function isAgain(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN';
}

/** Opens a path as a process chrooted to `rootFd` would: no symlink and no `..` leads out, magic links are refused. */
export function openInRoot(rootFd: number, path: Path, flags: number, mode = 0): number {
  return openat2(rootFd, path, { flags, mode, resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS });
}

/** mkdirat(2); the umask applies. */
export function mkdirat(dirFd: number | undefined, path: Path, mode: number): void {
  const name = cPath(path, 'mkdirat');
  invoke('mkdirat', path, () => c.mkdirat(dirFd ?? AT_FDCWD, name, mode));
}

/** mknodat(2): `mode` holds the type (S_IFCHR ...); `device` from `makeDevice`, 0n for FIFOs and sockets. */
export function mknodat(dirFd: number | undefined, path: Path, mode: number, device: bigint): void {
  const name = cPath(path, 'mknodat');
  invoke('mknodat', path, () => c.mknodat(dirFd ?? AT_FDCWD, name, mode, device));
}

/** mknod(2) */
export function mknod(path: Path, mode: number, device: bigint): void {
  mknodat(undefined, path, mode, device);
}

/** mkfifo(3) */
export function mkfifo(path: Path, mode: number): void {
  mknodat(undefined, path, 0o010000 | mode, 0n);
}

/** makedev(3), glibc's encoding of a device number. */
export function makeDevice(major: number, minor: number): bigint {
  const [a, i] = [BigInt(major), BigInt(minor)];
  return ((a & 0xfffff000n) << 32n) | ((a & 0xfffn) << 8n) | ((i & 0xffffff00n) << 12n) | (i & 0xffn);
}

/** symlinkat(2): makes `path` a link to `target`. */
export function symlinkat(target: Path, dirFd: number | undefined, path: Path): void {
  const [to, name] = [cPath(target, 'symlinkat'), cPath(path, 'symlinkat')];
  invoke('symlinkat', path, () => c.symlinkat(to, dirFd ?? AT_FDCWD, name));
}

/** linkat(2); follows no symlink unless AT_SYMLINK_FOLLOW. */
export function linkat(
  oldFd: number | undefined,
  oldPath: Path,
  newFd: number | undefined,
  newPath: Path,
  flags = 0,
): void {
  const [from, to] = [cPath(oldPath, 'linkat'), cPath(newPath, 'linkat')];
  invoke('linkat', newPath, () => c.linkat(oldFd ?? AT_FDCWD, from, newFd ?? AT_FDCWD, to, flags));
}

/** unlinkat(2); directories with AT_REMOVEDIR. */
export function unlinkat(dirFd: number | undefined, path: Path, flags = 0): void {
  const name = cPath(path, 'unlinkat');
  invoke('unlinkat', path, () => c.unlinkat(dirFd ?? AT_FDCWD, name, flags));
}

/** renameat2(2) with RENAME_* */
export function renameat2(
  oldFd: number | undefined,
  oldPath: Path,
  newFd: number | undefined,
  newPath: Path,
  flags = 0,
): void {
  const [from, to] = [cPath(oldPath, 'renameat2'), cPath(newPath, 'renameat2')];
  invoke('renameat2', newPath, () => c.renameat2(oldFd ?? AT_FDCWD, from, newFd ?? AT_FDCWD, to, flags));
}

/** fchownat(2); symlinks themselves with AT_SYMLINK_NOFOLLOW, the descriptor itself with '' and AT_EMPTY_PATH. */
export function fchownat(
  dirFd: number | undefined,
  path: Path,
  uid: number,
  gid: number,
  flags = AT_SYMLINK_NOFOLLOW,
): void {
  const name = cPath(path, 'fchownat');
  invoke('fchownat', path, () => c.fchownat(dirFd ?? AT_FDCWD, name, uid, gid, flags));
}

/** fchmodat(2). It follows a symlink (there is no chmod of a link): hand it names that are none. */
export function fchmodat(dirFd: number | undefined, path: Path, mode: number): void {
  const name = cPath(path, 'fchmodat');
  invoke('fchmodat', path, () => c.fchmodat(dirFd ?? AT_FDCWD, name, mode, 0));
}

/** utimensat(2), nanoseconds since the epoch (may be negative); of the link itself by default. */
export function utimensat(
  dirFd: number | undefined,
  path: Path,
  times: { readonly atimeNs: bigint; readonly mtimeNs: bigint },
  flags = AT_SYMLINK_NOFOLLOW,
): void {
  const name = cPath(path, 'utimensat');
  const data = timespecs;
  writeTimespec(data, 0, times.atimeNs);
  writeTimespec(data, 16, times.mtimeNs);
  invoke('utimensat', path, () => c.utimensat(dirFd ?? AT_FDCWD, name, data, flags));
}

const nsPerSecond = 1_000_000_000n;

/** The nanosecond part is never negative, also before 1970. */
function writeTimespec(data: Buffer, offset: number, ns: bigint): void {
  const rest = ((ns % nsPerSecond) + nsPerSecond) % nsPerSecond;
  data.writeBigInt64LE((ns - rest) / nsPerSecond, offset);
  data.writeBigInt64LE(rest, offset + 8);
}

/** readlinkat(2): the target as bytes, it need not be UTF-8. */
export function readlinkat(dirFd: number | undefined, path: Path): Buffer {
  const name = cPath(path, 'readlinkat');
  for (let size = 256; ; size *= 4) {
    const buffer = Buffer.alloc(size);
    const length = invoke('readlinkat', path, () => c.readlinkat(dirFd ?? AT_FDCWD, name, buffer, size));
    if (length < size) return buffer.subarray(0, length);
  }
}

export interface FileStat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly inode: bigint;
  readonly size: bigint;
  /** 512-byte units in use */
  readonly blocks: bigint;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Of a device file. */
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** 0n where the kernel is older than 5.8 */
  readonly mountId: bigint;
}

const STATX_BASIC_STATS = 0x7ff;
const STATX_MNT_ID = 0x1000;

/** statx(2), whose layout is the same on every architecture. Does not follow a symlink unless `flags` is 0. */
export function statAt(dirFd: number | undefined, path: Path, flags = AT_SYMLINK_NOFOLLOW): FileStat {
  const name = cPath(path, 'statx');
  const data = Buffer.alloc(256);
  const mask = STATX_BASIC_STATS | STATX_MNT_ID;
  invoke('statx', path, () => c.statx(dirFd ?? AT_FDCWD, name, flags, mask, data));
  const timeAt = (offset: number) => data.readBigInt64LE(offset) * nsPerSecond + BigInt(data.readUInt32LE(offset + 8));
  return {
    links: data.readUInt32LE(16),
    uid: data.readUInt32LE(20),
    gid: data.readUInt32LE(24),
    mode: data.readUInt16LE(28),
    inode: data.readBigUInt64LE(32),
    size: data.readBigUInt64LE(40),
    blocks: data.readBigUInt64LE(48),
    atimeNs: timeAt(64),
    ctimeNs: timeAt(96),
    mtimeNs: timeAt(112),
    rdevMajor: data.readUInt32LE(128),
    rdevMinor: data.readUInt32LE(132),
    deviceMajor: data.readUInt32LE(136),
    deviceMinor: data.readUInt32LE(140),
    mountId: (data.readUInt32LE(0) & STATX_MNT_ID) === 0 ? 0n : data.readBigUInt64LE(144),
  };
}

/** syncfs(2): writes the whole file system of `fd` to disk and waits. Only for workers: it may take seconds. */
export function syncfs(fd: number): void {
  invoke('syncfs', undefined, () => c.syncfs(fd));
}

/** syncfs(2) on the thread pool. */
export async function syncfsAsync(fd: number): Promise<void> {
  await syncfsOnPool('syncfs', undefined, fd);
}
