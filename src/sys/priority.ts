import { readdirSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';
import { SYS_ioprio_set, SYS_sched_setattr } from './arch.ts';
import { bind, bindSyscall, invoke } from './libc.ts';

const c = {
  schedGetscheduler: bind<(pid: number) => number>('int sched_getscheduler(int pid)'),
  ioprioSet: bindSyscall<(number: number, which: number, who: number, priority: number) => number>([
    'int',
    'int',
    'int',
  ]),
  schedSetattr: bindSyscall<(number: number, pid: number, attributes: Uint8Array, flags: number) => number>([
    'int',
    'void *',
    'uint',
  ]),
};

// linux/ioprio.h
const IOPRIO_WHO_PROCESS = 1;
const IOPRIO_CLASS_IDLE = 3;
const IOPRIO_CLASS_SHIFT = 13;

/**
 * Gives the calling thread only what others leave: nice 19, setpriority(2), and the idle class of ioprio_set(2). Both act
 * on one thread. There is no way back without privileges, so for threads that end.
 */
export function yieldToOthers(): void {
  setPriority(0, constants.priority.PRIORITY_LOW);
  const priority = IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT;
  invoke('ioprio_set', undefined, () => c.ioprioSet(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority));
}

const SCHED_OTHER = 0;
/** struct sched_attr of sched_setattr(2), its first version. */
const schedAttrBytes = 48;
const SCHED_FLAG_RESET_ON_FORK = 1;
const mainThreadNice = -10;
/** Nanoseconds; kernels before 6.12 have the same slice for all. */
const mainThreadSlice = 500_000n;

/**
 * Lets the calling thread run before others of the daemon's cgroup (its own workers, runtimes, a compiler beside it) when
 * there is something to do: nice -10 and a short slice, for itself alone. Threads and programs that it starts begin with
 * nice 0 and the usual slice. What somebody has chosen for the daemon (`Nice=`, `CPUSchedulingPolicy=` of its unit) stays as
 * it is. EPERM without CAP_SYS_NICE.
 */
export function runFirst(): void {
  if (getPriority() !== 0 || c.schedGetscheduler(0) !== SCHED_OTHER) return;
  const attributes = Buffer.alloc(schedAttrBytes);
  attributes.writeUInt32LE(schedAttrBytes, 0);
  attributes.writeBigUInt64LE(BigInt(SCHED_FLAG_RESET_ON_FORK), 8);
  attributes.writeInt32LE(mainThreadNice, 16);
  attributes.writeBigUInt64LE(mainThreadSlice, 24);
  invoke('sched_setattr', undefined, () => c.schedSetattr(SYS_sched_setattr, 0, attributes, 0));
}

/**
 * Gives the threads that `start` creates a nice value from their first instruction on, setpriority(2): a worker that
 * lowers its own does so only after some ten milliseconds of Node's start, which the main thread waits for on a busy node.
 * None is raised above what it would have without. What was started is never lost to it: whatever fails here (EMFILE
 * for /proc, a thread that has ended) leaves threads as they are.
 */
export function startNicely<T>(nice: number, start: () => T): T {
  const before = ownThreads();
  const started = start();
  if (before === undefined) return started;
  for (const thread of ownThreads() ?? []) if (!before.has(thread)) lower(thread, nice);
  return started;
}

/** Undefined when they cannot be listed. */
function ownThreads(): ReadonlySet<number> | undefined {
  try {
    return new Set(readdirSync('/proc/self/task').map(Number));
  } catch {
    return undefined;
  }
}

function lower(thread: number, nice: number): void {
  try {
    setPriority(thread, Math.max(nice, getPriority(thread)));
  } catch {
    // It has ended.
  }
}
