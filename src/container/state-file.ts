import { rename, unlink, writeFile } from 'node:fs/promises';
import { formatTimeNs, parseTimeNs, zeroTime } from '../base/clock.ts';
import { CrioError, wrap } from '../base/errors.ts';
import { escapeForHtml, isJsonObject, type JsonObject } from '../base/go-json.ts';
import type { ProcessRef } from '../runtime/runtime.ts';
import type { Container, ContainerState, ContainerStatus } from './container.ts';

/** `state.json` of a container, with the fields of CRI-O's (cri-behaviour 7): an OCI state and what is known beyond it. */

/** What a state file says; `createdAtNs` is 0n when it names no time. */
export interface SavedState extends ContainerState {
  readonly createdAtNs: bigint;
}

/** One line of JSON and a newline, keys in CRI-O's order. */
export function encodeState(container: Container): string {
  const { state, spec } = container;
  const document = {
    ociVersion: spec.ociVersion,
    id: container.id,
    status: state.status,
    ...(state.status === 'stopped' || state.init === undefined ? {} : { pid: state.init.pid }),
    bundle: container.bundle,
    annotations: spec.annotations ?? {},
    created: formatTime(container.createdAtNs),
    started: formatTime(state.startedAtNs),
    finished: formatTime(state.finishedAtNs),
    ...(state.exitCode === undefined ? {} : { exitCode: state.exitCode }),
    ...(state.oomKilled ? { oomKilled: true } : {}),
    ...(state.seccompKilled ? { seccompKilled: true } : {}),
    ...(state.error === '' ? {} : { error: state.error }),
    ...(state.init === undefined ? {} : { initPid: state.init.pid, initStartTime: state.init.startTime }),
    checkpointedTime: zeroTime,
    ...(state.monitor === undefined ? {} : { containerMonitorProcess: { ...state.monitor } }),
  };
  return `${escapeForHtml(JSON.stringify(document))}\n`;
}

/** Throws `invalid` when the text is no state of a container. Unknown fields are ignored. */
export function decodeState(text: string): SavedState {
  const document: unknown = parseJson(text);
  if (!isJsonObject(document)) throw new CrioError('invalid', 'decode container state: not an object');
  const init = initProcess(document);
  return {
    status: statusOf(document['status']),
    init,
    monitor: processRef(document['containerMonitorProcess']),
    createdAtNs: timeOf(document, 'created'),
    startedAtNs: timeOf(document, 'started'),
    finishedAtNs: timeOf(document, 'finished'),
    exitCode: integerOf(document['exitCode']),
    oomKilled: document['oomKilled'] === true,
    seccompKilled: document['seccompKilled'] === true,
    error: typeof document['error'] === 'string' ? document['error'] : '',
  };
}

/** Writes the file whole and renames it, not synced: a reboot ends the container anyway. */
export async function writeState(container: Container): Promise<void> {
  const path = `${container.directory}/state.json`;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, encodeState(container), { mode: 0o644 });
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw wrap(`write state of container "${container.id}"`, error);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw wrap('decode container state', error, 'invalid');
  }
}

const statuses: readonly ContainerStatus[] = ['created', 'running', 'paused', 'stopped'];

function statusOf(value: unknown): ContainerStatus {
  return statuses.find((status) => status === value) ?? 'unknown';
}

/** A file of an old version has only `pid`: the start time is then unknown and any process with that pid is taken. */
function initProcess(document: JsonObject): ProcessRef | undefined {
  const pid = integerOf(document['initPid']) ?? integerOf(document['pid']);
  if (pid === undefined || pid <= 0) return undefined;
  const startTime = document['initStartTime'];
  return { pid, startTime: typeof startTime === 'string' ? startTime : '' };
}

function processRef(value: unknown): ProcessRef | undefined {
  if (!isJsonObject(value)) return undefined;
  const pid = integerOf(value['pid']);
  const startTime = value['startTime'];
  if (pid === undefined || pid <= 0 || typeof startTime !== 'string') return undefined;
  return { pid, startTime };
}

function integerOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) ? value : undefined;
}

function timeOf(document: JsonObject, key: string): bigint {
  const value = document[key];
  return typeof value === 'string' ? (parseTimeNs(value) ?? 0n) : 0n;
}

function formatTime(ns: bigint): string {
  return ns === 0n ? zeroTime : formatTimeNs(ns);
}
