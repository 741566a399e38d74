import { closeSync, readFileSync } from 'node:fs';
import { hasCode } from '../base/errors.ts';
import type { ProcessRef } from '../runtime/runtime.ts';
import { isAlive, onProcessExit, openProcess, readStat, signalPidfd } from '../sys/process.ts';

/** What this feature asks of the kernel about processes. A process is meant by pid and start time, never by pid alone. */
export interface Processes {
  /** False when it has ended; a zombie has. */
  isAlive(ref: ProcessRef): boolean;
  /** Sends a signal to exactly this process; false when it has ended. */
  signal(ref: ProcessRef, signal: number): boolean;
  /** Resolves when the process has ended, at once when it is gone already; rejects only when `signal` aborts. */
  waitForEnd(ref: ProcessRef, signal: AbortSignal): Promise<void>;
  /** The process that has this pid now; undefined when there is none. */
  identify(pid: number): ProcessRef | undefined;
  /** Undefined when it has ended. */
  readStatus(ref: ProcessRef): ProcessStatus | undefined;
}

/** From `/proc/<pid>/status` (proc_pid_status(5)). */
export interface ProcessStatus {
  readonly name: string;
  /** Pid in the innermost PID namespace. */
  readonly innerPid: number;
  /** True when the process has a handler for this signal. */
  hasHandler(signal: number): boolean;
}

/** Pure; lines that are missing count as "no handler" and "not init". */
export function parseProcessStatus(text: string): ProcessStatus {
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
  const caught = BigInt(`0x${/^[0-9a-f]+$/.exec(field('SigCgt'))?.[0] ?? '0'}`);
  return {
    name: field('Name'),
    innerPid: Number(field('NSpid').split(/\s+/).at(-1) ?? 0),
    hasHandler: (signal) => (caught & (1n << BigInt(signal - 1))) !== 0n,
  };
}

export function readProcessStatus(pid: number): ProcessStatus | undefined {
  try {
    return parseProcessStatus(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

export const hostProcesses: Processes = {
  isAlive,
  signal(ref, signal) {
    const fd = openProcess(ref);
    if (fd === undefined) return false;
    try {
      return signalPidfd(fd, signal);
    } finally {
      closeSync(fd);
    }
  },
  async waitForEnd(ref, signal) {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const watch = watchProcess(ref, resolve);
    const onAbort = () => {
      watch?.close();
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  },
  identify(pid) {
    const stat = readStat(pid);
    return stat === undefined ? undefined : { pid, startTime: stat.startTime };
  },
  readStatus(ref) {
    return isAlive(ref) ? readProcessStatus(ref.pid) : undefined;
  },
};

/** Calls back at once, and returns undefined, when the process is gone. */
function watchProcess(ref: ProcessRef, onEnd: () => void): { close(): void } | undefined {
  try {
    const watch = onProcessExit(ref.pid, onEnd);
    if (isAlive(ref)) return watch;
    watch.close();
  } catch (error) {
    if (!hasCode(error, 'ESRCH', 'EINVAL')) throw error;
  }
  onEnd();
  return undefined;
}
