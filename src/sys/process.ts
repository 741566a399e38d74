import { closeSync, readFileSync, readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { pid as ownPid } from 'node:process';
import { hasCode } from '../base/errors.ts';
import { SYS_close_range, SYS_pidfd_open, SYS_pidfd_send_signal } from './arch.ts';
import { bind, bindSyscall, invoke, sysError, watchDescriptor } from './libc.ts';
import type { Pointer } from './libc.ts';

const PR_SET_CHILD_SUBREAPER = 36;
const PR_CAPBSET_READ = 23;
const RLIMIT_NOFILE = 7;
const CLOSE_RANGE_CLOEXEC = 4;

const c = {
  alarm: bind<(seconds: number) => number>('uint alarm(uint seconds)'),
  kill: bind<(pid: number, signal: number) => number>('int kill(int pid, int sig)'),
  pidfdOpen: bindSyscall<(number: number, pid: number, flags: number) => number>(['int', 'uint']),
  pidfdSendSignal: bindSyscall<(number: number, fd: number, signal: number, info: Pointer, flags: number) => number>([
    'int',
    'int',
    'void *',
    'uint',
  ]),
  closeRange: bindSyscall<(number: number, first: number, last: number, flags: number) => number>([
    'uint',
    'uint',
    'uint',
  ]),
  prctl: bind<(option: number, arg2: number, arg3: number, arg4: number, arg5: number) => number>(
    'int prctl(int option, ulong arg2, ulong arg3, ulong arg4, ulong arg5)',
  ),
  prlimit: bind<(pid: number, resource: number, newLimit: Pointer, oldLimit: Pointer) => number>(
    'int prlimit(int pid, int resource, const void *new_limit, void *old_limit)',
  ),
};

/** alarm(2): SIGALRM, which ends the process, after so many seconds. Nothing else here uses it. */
export function alarm(seconds: number): void {
  c.alarm(seconds);
}

/** kill(2) for one process; ESRCH when it is gone. Pids that mean a group or everybody (<= 0, 1) are refused. */
export function kill(pid: number, signal: number): void {
  if (!Number.isInteger(pid) || pid <= 1) throw sysError(constants.errno.EINVAL, 'kill', String(pid));
  invoke('kill', String(pid), () => c.kill(pid, signal));
}

/** kill(2) for a process group; ESRCH when it is empty. */
export function killGroup(processGroup: number, signal: number): void {
  if (!Number.isInteger(processGroup) || processGroup <= 1)
    throw sysError(constants.errno.EINVAL, 'kill', String(-processGroup));
  invoke('kill', String(-processGroup), () => c.kill(-processGroup, signal));
}

/** pidfd_open(2), close-on-exec; ESRCH when there is no such process. A zombie still has one. */
export function pidfdOpen(pid: number): number {
  return invoke('pidfd_open', String(pid), () => c.pidfdOpen(SYS_pidfd_open, pid, 0));
}

/** pidfd_send_signal(2): reaches that very process, never a later one with its pid. ESRCH when it has ended. */
export function pidfdSendSignal(fd: number, signal: number): void {
  invoke('pidfd_send_signal', undefined, () => c.pidfdSendSignal(SYS_pidfd_send_signal, fd, signal, null, 0));
}

/**
 * Resolves when the process of `pidfd` has ended (it may still be a zombie); rejects with the signal's reason.
 * The descriptor stays the caller's and must be open until then.
 */
export function waitPidfd(pidfd: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason);
      return;
    }
    const onAbort = () => {
      watch.close();
      reject(signal?.reason);
    };
    const watch = watchDescriptor(pidfd, { readable: true }, () => {
      watch.close();
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Calls back once when the process ends; `close` gives up. Opens and closes a pidfd of its own; ESRCH when it is gone. */
export function onProcessExit(pid: number, onExit: () => void): { close(): void } {
  const fd = pidfdOpen(pid);
  let closed = false;
  const close = () => {
    if (closed) return;
    closed = true;
    watch.close();
    closeSync(fd);
  };
  const watch = watchDescriptor(fd, { readable: true }, () => {
    close();
    onExit();
  });
  return { close };
}

export interface ProcessStat {
  readonly pid: number;
  /** The executable's name, at most 15 bytes. */
  readonly command: string;
  /** R, S, D, T, t, Z, X, I */
  readonly state: string;
  readonly parent: number;
  readonly group: number;
  readonly session: number;
  /** Clock ticks since boot; with the pid it names a process for good. */
  readonly startTime: string;
}

/** /proc/<pid>/stat, proc_pid_stat(5); undefined when the process is gone. */
export function readStat(pid: number): ProcessStat | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch (error) {
    // ESRCH: it ended between open and read.
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/** The command stands in parentheses and may itself hold spaces and parentheses: the last one closes it. */
export function parseStat(text: string): ProcessStat | undefined {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const fields = text.slice(close + 2).split(' ');
  const [state, parent, group, session] = fields;
  const startTime = fields[19];
  if (state === undefined || startTime === undefined) return undefined;
  return {
    pid: Number(text.slice(0, open)),
    command: text.slice(open + 1, close),
    state,
    parent: Number(parent),
    group: Number(group),
    session: Number(session),
    startTime,
  };
}

/** Field 22 of /proc/<pid>/stat; undefined when the process is gone. */
export function startTime(pid: number): string | undefined {
  return readStat(pid)?.startTime;
}

/** Field 3 of /proc/<pid>/stat; undefined when the process is gone. */
export function processState(pid: number): string | undefined {
  return readStat(pid)?.state;
}

interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

/**
 * True while the process with this pid and start time has not ended; a zombie has. An empty start time (a record of an old
 * CRI-O) fits any process with that pid.
 */
export function isAlive(process: ProcessIdentity): boolean {
  const stat = readStat(process.pid);
  if (stat === undefined || stat.state === 'Z' || stat.state === 'X') return false;
  return process.startTime === '' || stat.startTime === process.startTime;
}

/** A pidfd of exactly this process, the caller's to close; undefined when it has ended. */
export function openProcess(process: ProcessIdentity): number | undefined {
  let fd: number;
  try {
    fd = pidfdOpen(process.pid);
  } catch (error) {
    if (hasCode(error, 'ESRCH', 'EINVAL')) return undefined;
    throw error;
  }
  // Compared after the open: from here on the descriptor stays with whoever has the pid now.
  if (isAlive(process)) return fd;
  closeSync(fd);
  return undefined;
}

/** Sends a signal to the process of a pidfd; false when it has ended. */
export function signalPidfd(fd: number, signal: number): boolean {
  try {
    pidfdSendSignal(fd, signal);
    return true;
  } catch (error) {
    if (hasCode(error, 'ESRCH')) return false;
    throw error;
  }
}

/** All pids of this /proc. */
export function listPids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** PR_SET_CHILD_SUBREAPER, prctl(2): orphans below this process become its children and must be reaped. */
export function setChildSubreaper(): void {
  invoke('prctl', undefined, () => c.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}

/** capabilities(7) in the order of their numbers, as in the OCI spec. */
export const capabilityNames: readonly string[] = (
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE ' +
  'NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN ' +
  'SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE ' +
  'MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
)
  .split(' ')
  .map((name) => `CAP_${name}`);

/** The capabilities this process may hand on, `CAP_SYS_ADMIN` and so on: its bounding set, prctl(2). */
export function boundingCapabilities(): string[] {
  return capabilityNames.filter((_, number) => c.prctl(PR_CAPBSET_READ, number, 0, 0, 0) === 1);
}

export interface ResourceLimit {
  readonly soft: bigint;
  readonly hard: bigint;
}

/** getrlimit(2) of RLIMIT_NOFILE; pid 0 is this process. */
export function getNoFileLimit(pid = 0): ResourceLimit {
  const limit = Buffer.alloc(16);
  invoke('prlimit', String(pid), () => c.prlimit(pid, RLIMIT_NOFILE, null, limit));
  return { soft: limit.readBigUInt64LE(0), hard: limit.readBigUInt64LE(8) };
}

/** prlimit(2) of RLIMIT_NOFILE; pid 0 is this process. */
export function setNoFileLimit(limit: ResourceLimit, pid = 0): void {
  const data = Buffer.alloc(16);
  data.writeBigUInt64LE(limit.soft, 0);
  data.writeBigUInt64LE(limit.hard, 8);
  invoke('prlimit', String(pid), () => c.prlimit(pid, RLIMIT_NOFILE, data, null));
}

/** /proc/<pid>/oom_score_adj, proc_pid_oom_score_adj(5). */
export function getOomScoreAdj(pid: number | 'self' = 'self'): number {
  return Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'latin1'));
}

/**
 * The lowest oom_score_adj that this process may give to others: without CAP_SYS_RESOURCE it cannot go below its own
 * value (the kernel keeps the lowest one a privileged writer set, of which ours is a safe bound).
 */
export function lowestOomScoreAdj(): number {
  return hasEffectiveCapability('CAP_SYS_RESOURCE') ? -1000 : getOomScoreAdj();
}

/** CapEff in /proc/self/status, proc_pid_status(5). */
export function hasEffectiveCapability(name: string): boolean {
  const number = capabilityNames.indexOf(name);
  const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${ownPid}/status`, 'latin1'));
  return number >= 0 && match?.[1] !== undefined && ((BigInt(`0x${match[1]}`) >> BigInt(number)) & 1n) === 1n;
}

/**
 * close_range(2): every descriptor from 3 on that the daemon inherited becomes close-on-exec, so that no child gets it
 * (CVE-2024-21626). To be called first thing in main.
 */
export function closeOnExecInherited(): void {
  invoke('close_range', undefined, () => c.closeRange(SYS_close_range, 3, 0xffffffff, CLOSE_RANGE_CLOEXEC));
}
