import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';

const mebibyte = 1024 * 1024;
const pageSize = 4096;
const sampleMs = 20;

export interface MemoryWatch {
  /** Most that was resident at once since the watch began. */
  stop(): number;
}

/** Resident memory of a process and its descendants. */
export function residentMiB(pid: number): number {
  return processTree(pid).reduce((sum, each) => sum + residentOf(each), 0);
}

/**
 * Two measurements, of which the larger counts: the kernel's own peak of the main process, reset at the start
 * (proc_pid_clear_refs(5)), with what its descendants had at the start; and the sum of the whole tree, read often.
 */
export function watchMemory(pid: number): MemoryWatch {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
  const descendants = residentMiB(pid) - residentOf(pid);
  let highest = 0;
  const sample = (): void => void (highest = Math.max(highest, residentMiB(pid)));
  const timer = setInterval(sample, sampleMs);
  return {
    stop: () => {
      clearInterval(timer);
      sample();
      return Math.max(highest, peakOf(pid) + descendants);
    },
  };
}

/** User and system time of one process so far; proc_pid_stat(5) counts in hundredths of a second. */
export function cpuSecondsOf(pid: number): number {
  const text = readProc(`/proc/${pid}/stat`);
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / 100;
}

/** Without children of `pid` that are between fork(2) and execve(2): their memory is that of `pid`, and would count twice. */
function processTree(pid: number): number[] {
  const program = programOf(pid);
  const found = [pid];
  for (const each of found) found.push(...childrenOf(each).filter((child) => programOf(child) !== program));
  return found;
}

/** undefined for a process that has ended. */
function programOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return undefined;
  }
}

function childrenOf(pid: number): number[] {
  // Almost all children are those of the main thread; a thread's own are listed at that thread.
  return readProc(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
}

function residentOf(pid: number): number {
  return (Number(readProc(`/proc/${pid}/statm`).split(' ')[1] ?? 0) * pageSize) / mebibyte;
}

function peakOf(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readProc(`/proc/${pid}/status`))?.[1] ?? 0) / 1024;
}

/** Empty for a process that has ended. */
function readProc(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
