import type { RuleCondition, SeccompArgument, SeccompProfile, SeccompRule } from './seccomp-profile.ts';

/**
 * The built-in RuntimeDefault profile. Everything it does not name answers ENOSYS, so that programs fall back to older
 * system calls; what it names as forbidden answers EPERM.
 */

const EPERM = 1;
const EINVAL = 22;
const ENOSYS = 38;
const AF_NETLINK = 16;
const AF_VSOCK = 40;
const NETLINK_AUDIT = 9;

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET of clone(2) */
const namespaceFlags = [0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x02000000];
const allNamespaceFlags = 0x7e020000;
/** PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, and the question for the current one: personality(2) */
const personalities = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff];

const forbidden = `
  bdflush cachestat futex_requeue futex_wait futex_waitv futex_wake io_pgetevents io_pgetevents_time64 kexec_file_load
  kexec_load map_shadow_stack migrate_pages move_pages nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname
  pciconfig_iobase pciconfig_read pciconfig_write sgetmask ssetmask swapoff swapon syscall sysfs uselib userfaultfd ustat
  vm86 vm86old vmsplice`;

const allowed = `
  _llseek _newselect accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown chown32 clock_adjtime
  clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
  close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
  epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
  fadvise64 fadvise64_64 fallocate fanotify_init fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
  fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat
  fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_time64 futimesat get_mempolicy
  get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
  getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
  getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr
  inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit ioctl
  ioprio_get ioprio_set ipc keyctl kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
  lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise mbind membarrier
  memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mount mount_setattr
  move_mount mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
  mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at
  nanosleep newfstatat open open_tree openat openat2 pause pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pivot_root
  pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
  process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
  readlinkat readv reboot recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat
  renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
  rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
  sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
  sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
  semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_mempolicy set_robust_list
  set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
  setns setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit
  setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signal signalfd signalfd4
  sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync
  sync_file_range syncfs sysinfo syslog tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
  timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
  timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask umount umount2 uname unlink unlinkat utime utimensat
  utimensat_time64 utimes vfork wait4 waitid waitpid write writev`;

export const defaultProfile: SeccompProfile = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: ENOSYS,
  archMap: [
    subArchitectures('X86_64', 'X86', 'X32'),
    subArchitectures('AARCH64', 'ARM'),
    subArchitectures('MIPS64', 'MIPS', 'MIPS64N32'),
    subArchitectures('MIPS64N32', 'MIPS', 'MIPS64'),
    subArchitectures('MIPSEL64', 'MIPSEL', 'MIPSEL64N32'),
    subArchitectures('MIPSEL64N32', 'MIPSEL', 'MIPSEL64'),
    subArchitectures('S390X', 'S390'),
  ],
  syscalls: [
    forbid(forbidden),
    allow(allowed),
    ...personalities.map((value) => allow('personality', {}, [equal(0, value)])),
    ...architectureRules(),
    ...capabilityRules(),
    ...socketRules(),
    allow('bpf', withCaps('CAP_BPF')),
    forbid('bpf', withoutCaps('CAP_SYS_ADMIN', 'CAP_BPF')),
    allow('perf_event_open', withCaps('CAP_PERFMON')),
    forbid('perf_event_open', withoutCaps('CAP_SYS_ADMIN', 'CAP_PERFMON')),
    ...namespaceRules(),
  ],
};

function architectureRules(): SeccompRule[] {
  return [
    allow('sync_file_range2 swapcontext', onArchitectures('ppc64le')),
    allow(
      'arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2',
      onArchitectures('arm', 'arm64'),
    ),
    allow('arch_prctl', onArchitectures('amd64', 'x32')),
    allow('modify_ldt', onArchitectures('amd64', 'x32', 'x86')),
    allow('s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr', onArchitectures('s390', 's390x')),
    allow('riscv_flush_icache', onArchitectures('riscv64')),
  ];
}

/** What the kernel guards with a capability: allowed to who has it, EPERM (not ENOSYS) to who has not. */
function capabilityRules(): SeccompRule[] {
  return [
    ...guarded('CAP_DAC_READ_SEARCH', 'open_by_handle_at'),
    allow(
      'bpf lookup_dcookie perf_event_open quotactl quotactl_fd setdomainname sethostname setns',
      withCaps('CAP_SYS_ADMIN'),
    ),
    forbid('lookup_dcookie quotactl quotactl_fd setdomainname sethostname setns', withoutCaps('CAP_SYS_ADMIN')),
    ...guarded('CAP_SYS_CHROOT', 'chroot'),
    ...guarded('CAP_SYS_MODULE', 'delete_module finit_module init_module query_module'),
    ...guarded('CAP_SYS_PACCT', 'acct'),
    ...guarded('CAP_SYS_PTRACE', 'kcmp process_madvise'),
    ...guarded('CAP_SYS_RAWIO', 'ioperm iopl'),
    ...guarded('CAP_SYS_TIME', 'clock_settime clock_settime64 settimeofday stime'),
    ...guarded('CAP_SYS_TTY_CONFIG', 'vhangup'),
  ];
}

/** AF_VSOCK reaches the hypervisor from any namespace; the audit socket needs its capability. */
function socketRules(): SeccompRule[] {
  const audited = withCaps('CAP_AUDIT_WRITE');
  const unaudited = withoutCaps('CAP_AUDIT_WRITE');
  return [
    forbid('socket', {}, [equal(0, AF_VSOCK)]),
    {
      ...forbid('socket', unaudited, [equal(0, AF_NETLINK), equal(2, NETLINK_AUDIT)]),
      errnoRet: EINVAL,
    },
    allow('socket', unaudited, [equal(0, AF_NETLINK), notEqual(2, NETLINK_AUDIT)]),
    allow('socket', unaudited, [notEqual(0, AF_NETLINK)]),
    allow('socket', audited, [notEqual(0, AF_VSOCK)]),
  ];
}

/** New namespaces only with SYS_ADMIN. clone3 hides its flags from seccomp: ENOSYS makes the libc use clone. */
function namespaceRules(): SeccompRule[] {
  const s390 = ['s390', 's390x'];
  const plain = withoutCaps('CAP_SYS_ADMIN');
  const noNewNamespace = (index: number): SeccompArgument => ({
    index,
    value: allNamespaceFlags,
    valueTwo: 0,
    op: 'SCMP_CMP_MASKED_EQ',
  });
  return [
    allow('clone clone3 unshare', withCaps('CAP_SYS_ADMIN')),
    allow('clone', { excludes: { arches: s390 } }, [noNewNamespace(0)]),
    allow('clone', { includes: { arches: s390 } }, [noNewNamespace(1)]),
    forbid(
      'clone',
      { excludes: { caps: ['CAP_SYS_ADMIN'], arches: s390 } },
      namespaceFlags.map((flag) => masked(0, flag)),
    ),
    forbid(
      'clone',
      { ...plain, includes: { arches: s390 } },
      namespaceFlags.map((flag) => masked(1, flag)),
    ),
    { ...forbid('clone3', plain), errnoRet: ENOSYS },
  ];
}

interface Conditions {
  readonly includes?: RuleCondition;
  readonly excludes?: RuleCondition;
}

function allow(names: string, conditions: Conditions = {}, args: readonly SeccompArgument[] = []): SeccompRule {
  return { names: names.trim().split(/\s+/), action: 'SCMP_ACT_ALLOW', ...conditions, args };
}

function forbid(names: string, conditions: Conditions = {}, args: readonly SeccompArgument[] = []): SeccompRule {
  return { names: names.trim().split(/\s+/), action: 'SCMP_ACT_ERRNO', errnoRet: EPERM, ...conditions, args };
}

function guarded(capability: string, names: string): SeccompRule[] {
  return [allow(names, withCaps(capability)), forbid(names, withoutCaps(capability))];
}

function withCaps(...caps: string[]): Conditions {
  return { includes: { caps } };
}

function withoutCaps(...caps: string[]): Conditions {
  return { excludes: { caps } };
}

function onArchitectures(...arches: string[]): Conditions {
  return { includes: { arches } };
}

function equal(index: number, value: number): SeccompArgument {
  return { index, value, op: 'SCMP_CMP_EQ' };
}

function notEqual(index: number, value: number): SeccompArgument {
  return { index, value, op: 'SCMP_CMP_NE' };
}

function masked(index: number, flag: number): SeccompArgument {
  return { index, value: flag, valueTwo: flag, op: 'SCMP_CMP_MASKED_EQ' };
}

function subArchitectures(native: string, ...others: string[]): { architecture: string; subArchitectures: string[] } {
  return { architecture: `SCMP_ARCH_${native}`, subArchitectures: others.map((name) => `SCMP_ARCH_${name}`) };
}
