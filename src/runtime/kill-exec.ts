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
const runtimeLimitMs = 2000;

/** What is known of an exec that is to be killed. */
export interface KillableExec {
  /** The runtime that starts, or has started, the command. */
  readonly runtime: ChildHandle;
  /** Undefined until its pid is known. Its `kill` does nothing once it has been reaped. */
  readonly command?: Pick<Orphan, 'pid' | 'kill'> | undefined;
  /** Pids of all processes of the container now. */
  readonly processes: () => readonly number[];
}

/**
 * Kills every process of an exec: those of the container in the session that the runtime made for it. A session survives
 * the death of its leader, and nothing outside the exec can be in it. Before the command's pid is known, its session is
 * found among the runtime's children. A runtime that has not come that far, or hangs, is killed as well.
 * Must not be called once the command has been reaped: its pid may be another's.
 */
export async function killExec(exec: KillableExec): Promise<void> {
  const { runtime, command } = exec;
  const sessions = command === undefined ? sessionsOf(runtime.pid) : sessionOf(command.pid);
  if (sessions.size === 0 && command === undefined) {
    runtime.kill(SIGKILL, { group: true });
    return;
  }
  for (let round = 0; round < maxRounds; round++) {
    if (killSessions(exec, sessions) === 0) break;
    await sleep(pauseMs);
  }
  // A program may have left the container's cgroup, the leader is known in any case.
  command?.kill(SIGKILL);
  const ended = await Promise.race([runtime.exited, sleep(runtimeLimitMs, undefined, { ref: false })]);
  if (ended === undefined) runtime.kill(SIGKILL, { group: true });
}

/**
 * The command's own: its pid is nobody else's while it has not been reaped, and the session's is not while it is in it. It
 * need not lead the session (crun 1.8.1 forks once more to enter the PID namespace).
 */
function sessionOf(pid: number): Set<number> {
  const session = readStat(pid)?.session;
  const own = readStat(ownPid)?.session;
  return new Set(session === undefined || session <= 1 || session === own ? [] : [session]);
}

/** The runtime's children that lead, or belong to, another session than its own. */
function sessionsOf(runtimePid: number): Set<number> {
  const own = readStat(runtimePid)?.session;
  const sessions = new Set<number>();
  if (own === undefined) return sessions;
  for (const child of childrenOf(runtimePid)) {
    const session = readStat(child)?.session;
    if (session !== undefined && session !== own && session > 1) sessions.add(session);
  }
  return sessions;
}

/** Sends SIGKILL to all that live, and says how many that were. */
function killSessions({ runtime, command, processes }: KillableExec, sessions: ReadonlySet<number>): number {
  let count = 0;
  // What the runtime is about to start may not have entered the container's cgroup yet.
  for (const pid of new Set([...processes(), ...(command === undefined ? childrenOf(runtime.pid) : [])])) {
    const stat = readStat(pid);
    if (stat === undefined || !sessions.has(stat.session) || stat.state === 'Z' || stat.state === 'X') continue;
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
