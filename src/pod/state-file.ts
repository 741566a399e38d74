import { formatTimeNs, parseTimeNs, zeroTime } from '../base/clock.ts';
import { CrioError, wrap } from '../base/errors.ts';
import { escapeForHtml, isJsonObject, type Json } from '../base/go-json.ts';
import type { ProcessRef } from '../runtime/runtime.ts';

/**
 * `state.json` of a pod as CRI-O keeps it: of a kept infra container the runtime's state and what is known beyond it, of a
 * dropped one only the times.
 */
export interface PodStateFile {
  readonly infra: InfraState | undefined;
  readonly isStopped: boolean;
  readonly createdAtNs: bigint;
  readonly startedAtNs: bigint;
  /** 0n while it runs */
  readonly finishedAtNs: bigint;
}

export interface InfraState {
  readonly id: string;
  readonly bundle: string;
  readonly ociVersion: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly init: ProcessRef | undefined;
  readonly monitor: ProcessRef | undefined;
  readonly exitCode: number | undefined;
}

/** One line and a newline. Pure. */
export function formatPodState(state: PodStateFile): string {
  const { infra, isStopped } = state;
  const members = {
    ociVersion: infra?.ociVersion ?? '',
    id: infra?.id ?? '',
    status: isStopped ? 'stopped' : infra === undefined ? '' : 'running',
    pid: isStopped ? undefined : infra?.init?.pid,
    bundle: infra?.bundle ?? '',
    annotations: infra?.annotations,
    created: timeText(state.createdAtNs),
    started: timeText(state.startedAtNs),
    finished: timeText(state.finishedAtNs),
    exitCode: infra?.exitCode,
    initPid: infra?.init?.pid,
    initStartTime: infra?.init?.startTime,
    checkpointedTime: zeroTime,
    containerMonitorProcess: infra?.monitor,
  };
  return `${escapeForHtml(JSON.stringify(members))}\n`;
}

/** What a restart needs of the file. Throws when it is no state. */
export function parsePodState(text: string): {
  isStopped: boolean;
  init: ProcessRef | undefined;
  monitor: ProcessRef | undefined;
  createdAtNs: bigint;
  startedAtNs: bigint;
  finishedAtNs: bigint;
} {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw wrap('parse state.json', error, 'internal');
  }
  if (!isJsonObject(value)) throw new CrioError('internal', 'parse state.json: not an object');
  const init = processRef(value['initPid'] ?? value['pid'], value['initStartTime']);
  const monitor = value['containerMonitorProcess'];
  return {
    isStopped: value['status'] === 'stopped',
    init,
    monitor: isJsonObject(monitor) ? processRef(monitor['pid'], monitor['startTime']) : undefined,
    createdAtNs: timeOf(value['created']),
    startedAtNs: timeOf(value['started']),
    finishedAtNs: timeOf(value['finished']),
  };
}

function processRef(pid: Json | undefined, startTime: Json | undefined): ProcessRef | undefined {
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 1) return undefined;
  return { pid, startTime: typeof startTime === 'string' ? startTime : '' };
}

function timeOf(value: Json | undefined): bigint {
  return typeof value === 'string' ? (parseTimeNs(value) ?? 0n) : 0n;
}

function timeText(ns: bigint): string {
  return ns === 0n ? zeroTime : formatTimeNs(ns);
}
