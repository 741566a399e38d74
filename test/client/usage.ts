import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readStat } from '../../src/sys/process.ts';
import { waitFor } from './pods.ts';

export interface Usage {
  readonly residentKiB: number;
  /** How many descriptors of each kind: `socket`, `pipe`, `anon_inode:[eventpoll]`, or a path. */
  readonly descriptors: Readonly<Record<string, number>>;
  /** Its children, which commands of an exec are too. */
  readonly children: number;
}

/** What a process holds, from /proc; see proc_pid_fd(5). */
export function usageOf(pid: number): Usage {
  const descriptors: Record<string, number> = {};
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const kind = kindOf(`/proc/${pid}/fd/${fd}`);
    if (kind !== undefined) descriptors[kind] = (descriptors[kind] ?? 0) + 1;
  }
  return { residentKiB: residentKiB(pid), descriptors, children: childrenOf(pid).length };
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

/** Its state (proc_pid_stat(5)) and its command line, of which a zombie has none. */
function describe(pid: number): string {
  const stat = readStat(pid);
  if (stat === undefined) return `${pid} gone`;
  return `${pid} ${stat.state} ${commandLine(pid) || `(${stat.command})`}`;
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return 'gone';
  }
}

export function residentKiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/** Undefined for one that has just been closed. */
function kindOf(link: string): string | undefined {
  try {
    return readlinkSync(link).replace(/^(socket|pipe):.*/, '$1');
  } catch {
    return undefined;
  }
}

/** Waits until the process has no more descriptors of any kind, and no more children, than it had. */
export async function waitForUsage(pid: number, before: Usage): Promise<Usage> {
  let now = usageOf(pid);
  try {
    await waitFor('the descriptors', 15_000, () => {
      now = usageOf(pid);
      return added(before, now).length === 0 || undefined;
    });
  } catch (error) {
    const more = added(before, now).join(', ');
    throw new Error(
      `the process has more than it had: ${more}; its children: ${childrenOf(pid).map(describe).join(', ')}`,
      {
        cause: error,
      },
    );
  }
  return now;
}

function added(before: Usage, now: Usage): string[] {
  const kinds = Object.entries(now.descriptors).map(
    ([kind, count]) => [kind, count, before.descriptors[kind] ?? 0] as const,
  );
  return [...kinds, ['children', now.children, before.children] as const]
    .filter(([, count, earlier]) => count > earlier)
    .map(([kind, count, earlier]) => `${count} instead of ${earlier} ${kind}`);
}
