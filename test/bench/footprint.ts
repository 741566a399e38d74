import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor } from '../client/pods.ts';
import { startDaemon, type Daemon, type DaemonOptions } from '../run/daemon.ts';
import { stageFolder } from '../run/stage.ts';
import { residentMiB } from './template.ts';

/** What a daemon holds. */
export interface Footprint {
  /** After a garbage collection. */
  readonly rssMiB: number;
  /** The part of it that is not the program's file. */
  readonly anonymousMiB: number;
  readonly heapMiB: number;
  readonly fds: number;
  /** Its children, orphans that it has taken over among them; the monitors are so too. */
  readonly processes: number;
  readonly timers: number;
}

const settleMs = 300;
const probeFile = (): string => join(stageFolder(), 'probe.json');

/** A daemon that tells its timers and collects its garbage when asked. */
export function startProbedDaemon(options: DaemonOptions): Promise<Daemon> {
  const env = {
    NODE_OPTIONS: `--import=${join(import.meta.dirname, 'daemon-probe.ts')}`,
    CRIO_BENCH_PROBE: probeFile(),
  };
  return startDaemon({ ...options, env });
}

/** The footprint of a daemon of `startProbedDaemon` that is not busy. */
export async function footprintOf(daemon: Daemon): Promise<Footprint> {
  // What the last calls have left for a later turn of the event loop is done then.
  await sleep(settleMs);
  await probe(daemon);
  const { timers, heapUsed } = await probe(daemon);
  const pid = daemon.pid();
  return {
    rssMiB: residentMiB(pid),
    anonymousMiB: residentMiB(pid, 'RssAnon'),
    heapMiB: Math.round((heapUsed / (1 << 20)) * 100) / 100,
    fds: readdirSync(`/proc/${pid}/fd`).length,
    processes: childrenOf(pid),
    timers,
  };
}

async function probe(daemon: Daemon): Promise<{ timers: number; heapUsed: number }> {
  rmSync(probeFile(), { force: true });
  process.kill(daemon.pid(), 'SIGUSR2');
  const text = await waitFor('the probe in the daemon', 10_000, () => readIfThere(probeFile()));
  return JSON.parse(text) as { timers: number; heapUsed: number }; // written by daemon-probe.ts
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** proc_tid_children(5) of all threads. */
function childrenOf(pid: number): number {
  const lists = readdirSync(`/proc/${pid}/task`).map((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1'),
  );
  return lists.join(' ').split(' ').filter(Boolean).length;
}
