import { arch } from 'node:process';

/** What differs between the architectures of Linux. */
export interface Architecture {
  readonly O_DIRECT: number;
  readonly O_LARGEFILE: number;
  readonly O_DIRECTORY: number;
  readonly O_NOFOLLOW: number;
  readonly SYS_ioprio_set: number;
  readonly SYS_sched_setattr: number;
  /** Native seccomp architecture and OCI platform architecture. */
  readonly goArch: string;
}

/** asm/fcntl.h: arm64 keeps the values of 32-bit arm, x86-64 uses the generic ones. */
const architectures: Readonly<Record<string, Architecture>> = {
  x64: {
    O_DIRECT: 0o40000,
    O_LARGEFILE: 0o100000,
    O_DIRECTORY: 0o200000,
    O_NOFOLLOW: 0o400000,
    SYS_ioprio_set: 251,
    SYS_sched_setattr: 314,
    goArch: 'amd64',
  },
  arm64: {
    O_DIRECT: 0o200000,
    O_LARGEFILE: 0o400000,
    O_DIRECTORY: 0o40000,
    O_NOFOLLOW: 0o100000,
    SYS_ioprio_set: 30,
    SYS_sched_setattr: 274,
    goArch: 'arm64',
  },
};

export function architectureOf(name: string): Architecture {
  const found = architectures[name];
  if (found === undefined) throw new Error(`architecture "${name}": not supported, only x64 and arm64 are`);
  return found;
}

export const architecture = architectureOf(arch);
export const { O_DIRECT, O_DIRECTORY, O_NOFOLLOW, SYS_ioprio_set, SYS_sched_setattr } = architecture;

/** asm-generic/fcntl.h: the same on both. */
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
export const O_TMPFILE = 0o20000000 | O_DIRECTORY;

/** System calls since Linux 5.0 have one number everywhere (asm-generic/unistd.h). */
export const SYS_pidfd_send_signal = 424;
export const SYS_open_tree = 428;
export const SYS_move_mount = 429;
export const SYS_fsopen = 430;
export const SYS_fsconfig = 431;
export const SYS_fsmount = 432;
export const SYS_pidfd_open = 434;
export const SYS_close_range = 436;
export const SYS_openat2 = 437;
export const SYS_mount_setattr = 442;
