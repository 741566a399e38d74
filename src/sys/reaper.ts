import { bind } from './libc.ts';
import type { Pointer } from './libc.ts';
import { setChildSubreaper } from './process.ts';
import { adopt, reapBySignal, reapOrphan, reapOwnChild } from './spawn.ts';
import type { ChildHandle, ExitStatus } from './spawn.ts';

const P_ALL = 0;
const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x01000000;
/** Only children of the calling thread: those that a worker or libuv's threads started are theirs. */
const WNOTHREAD = 0x20000000;
/** siginfo_t of a child's death: si_pid on 64-bit Linux. */
const siPidOffset = 16;
const safetyNetMs = 10_000;

const c = {
  waitid: bind<(idType: number, id: number, info: Pointer, options: number) => number>(
    'int waitid(int idtype, uint id, void *info, int options)',
  ),
};

/**
 * Makes the daemon the parent of orphans below it (conmon, processes a killed runtime left) and reaps them: an unreaped
 * one keeps its container "running" and its cgroup busy. Every zombie is first looked at with WNOWAIT and then reaped by
 * its pid, through its owner when it was started here. Nothing else in the main thread may start children.
 */
export function startReaper(): Disposable {
  setChildSubreaper();
  process.on('SIGCHLD', reapAll);
  const timer = setInterval(reapAll, safetyNetMs);
  timer.unref();
  reapBySignal(timer);
  return {
    [Symbol.dispose]() {
      process.off('SIGCHLD', reapAll);
      reapBySignal(undefined);
      clearInterval(timer);
    },
  };
}

/** Ends of orphans, for everyone who is about to learn the pid of one. */
const expectations = new Set<Map<number, ExitStatus>>();

export type Orphan = Pick<ChildHandle, 'pid' | 'exited' | 'hasEnded' | 'kill'>;

/** An orphan that is to come, whose exit status somebody wants. */
export interface ExpectedOrphan extends Disposable {
  /**
   * Its pid has become known, and its parent has ended. Gives the end, which may lie in the past, and a way to signal it,
   * which does nothing from its end on. The status is `{undefined, undefined}` when this process did not become its parent.
   */
  claim(pid: number): Orphan;
}

/** To be called before the process that leaves the orphan is started: from here on its end is not missed. */
export function expectOrphan(): ExpectedOrphan {
  const ends = new Map<number, ExitStatus>();
  expectations.add(ends);
  return {
    claim(pid) {
      const status = ends.get(pid);
      expectations.delete(ends);
      return status === undefined ? adopt(pid) : { pid, exited: Promise.resolve(status), hasEnded: true, kill() {} };
    },
    [Symbol.dispose]: () => void expectations.delete(ends),
  };
}

function reapAll(): void {
  const info = Buffer.alloc(128);
  for (let last = 0; ;) {
    info.writeInt32LE(0, siPidOffset);
    if (c.waitid(P_ALL, 0, info, WEXITED | WNOHANG | WNOWAIT | WNOTHREAD) !== 0) return;
    const pid = info.readInt32LE(siPidOffset);
    // The same one twice: it could not be reaped, the next signal or the timer tries again.
    if (pid === 0 || pid === last) return;
    last = pid;
    if (reapOwnChild(pid)) continue;
    const status = reapOrphan(pid);
    if (status !== undefined) for (const expectation of expectations) expectation.set(pid, status);
  }
}
