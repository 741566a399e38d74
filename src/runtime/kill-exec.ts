import { readFileSync, readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { pid as ownPid } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../base/errors.ts';
import { kill, readStat } from '../sys/process.ts';
import type { Orphan } from '../sys/reaper.ts';
import type { ChildHandle } from '../sys/spawn.ts';

const { SIGKILL } = constants.signals;
/** A session that forks as fast as it is killed: rounds until it is given up. */
const maxRounds = 50;
const pauseMs = 5;
/** A start takes milliseconds, on a node that is short of CPU a second or two. */
const startLimitMs = 10_000;

/**
 * Waits for the end of a runtime whose exec nobody wants any more. It may not be killed on the way: the command is an orphan
 * before its pid is written (crun 1.8.1 enters the PID namespace by a second fork, and the process between ends), so nobody
 * would know it. The runtime ends in milliseconds, with the pid, or without a command. One that hangs is killed after 10 s,
 * with what it has started. `pidPath`: the pid file's, which no other runtime has among its arguments.
 */
export async function endStart(runtime: ChildHandle, pidPath: string): Promise<void> {
  const { promise: isOver, resolve } = Promise.withResolvers<'over'>();
  const timer = setTimeout(resolve, startLimitMs, 'over');
  const first = await Promise.race([runtime.exited, isOver]);
  clearTimeout(timer);
  if (first !== 'over') return;
  let started: readonly number[] = [];
  try {
    started = [...childrenOf(runtime.pid), ...childrenOf(ownPid).filter((pid) => hasArgument(pid, pidPath))];
  } finally {
    runtime.kill(SIGKILL, { group: true });
  }
  for (const pid of started) ignoreGone(() => kill(pid, SIGKILL));
}

/** Until it becomes the command, what the runtime has forked has the runtime's arguments. */
function hasArgument(pid: number, argument: string): boolean {
  const text = ignoreGone(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')) ?? '';
  return text.split('\0').includes(argument);
}

/**
 * Kills every process of a command: those of its container, `processes`, in the session that the runtime made for it. A
 * session survives the death of its leader, and nothing outside the exec can be in it. Once the command has been reaped, its
 * pid may be another's, and nothing happens.
 */
export async function killCommand(
  command: Pick<Orphan, 'pid' | 'hasEnded' | 'kill'>,
  processes: () => readonly number[],
): Promise<void> {
  if (command.hasEnded) return;
  try {
    const session = sessionOf(command.pid);
    for (let round = 0; session !== undefined && round < maxRounds; round++) {
      if (killSession(session, processes()) === 0) break;
      await sleep(pauseMs);
    }
  } finally {
    // A program may have left the container's cgroup, the leader is known in any case.
    command.kill(SIGKILL);
  }
}

/**
 * The command's own: its pid is nobody else's while it has not been reaped, and the session's is not while it is in it. It
 * need not lead the session (crun 1.8.1 forks once more to enter the PID namespace).
 */
function sessionOf(pid: number): number | undefined {
  const session = readStat(pid)?.session;
  const own = readStat(ownPid)?.session;
  return session === undefined || session <= 1 || session === own ? undefined : session;
}

/** Sends SIGKILL to all that live, and says how many that were. */
function killSession(session: number, pids: readonly number[]): number {
  let count = 0;
  for (const pid of pids) {
    const stat = readStat(pid);
    if (stat?.session !== session || stat.state === 'Z' || stat.state === 'X') continue;
    count++;
    ignoreGone(() => kill(pid, SIGKILL));
  }
  return count;
}

/** proc_tid_children(5): the children of each thread. */
function childrenOf(pid: number): number[] {
  const children: number[] = [];
  for (const thread of ignoreGone(() => readdirSync(`/proc/${pid}/task`)) ?? []) {
    const text = ignoreGone(() => readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1')) ?? '';
    children.push(...text.split(' ').filter(Boolean).map(Number));
  }
  return children;
}

function ignoreGone<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}
