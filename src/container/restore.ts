import type { Call } from '../base/call.ts';
import { kindOf, messageOf } from '../base/errors.ts';
import { isJsonObject } from '../base/go-json.ts';
import type { Pod } from '../pod/pod.ts';
import type { RuntimeState } from '../runtime/runtime.ts';
import { findMonitor } from './monitor.ts';
import { readNonEmpty } from './read-file.ts';
import { decodeSpec } from '../runtime/spec/spec-json.ts';
import type { ContainerRecord } from '../storage/store.ts';
import type { ContainerState } from './container.ts';
import { runtimeFor, type Context } from './context.ts';
import { cleanUpAfterExit, deriveExit, hasEnded, readExit, repeatCleanUp, watchInit } from './exit.ts';
import { discardContainer } from './discard.ts';
import { containerFromSpec } from './saved-container.ts';
import { shareSeccomp } from './share-seccomp.ts';
import { decodeState, type SavedState } from './state-file.ts';
import { newEntry } from './store.ts';
import { sweepLeftovers } from './sweep.ts';

export interface RestoreReport {
  readonly restored: number;
  /** Left by an operation that a crash interrupted, and removed. */
  readonly removed: readonly string[];
  /** Records that cannot be read: left alone, with the reason. */
  readonly quarantined: readonly { readonly id: string; readonly reason: string }[];
}

/** More at once only wait for each other. */
const parallelism = 8;
const attempts = 3;
const retryPauseMs = 200;

type Outcome = 'restored' | 'removed' | { readonly quarantined: string } | 'foreign';

/**
 * Takes over the containers that an earlier daemon left, this one's or CRI-O's: running ones untouched, those that
 * ended meanwhile with the code and the time their monitor wrote down. One bad record stops nothing, and a container of
 * which the runtime tells nothing now is listed as `unknown`, so that it can be removed.
 */
export async function restoreContainers(context: Context, call: Call): Promise<RestoreReport> {
  const records = await context.store.containers.list();
  const known = new Set(records.map(({ id }) => id));
  const removed: string[] = [];
  const quarantined: { id: string; reason: string }[] = [];
  let restored = 0;
  await forEachBounded(records, async (record) => {
    const outcome = await restoreOne(context, call, { record, known });
    if (outcome === 'restored') restored += 1;
    else if (outcome === 'removed') removed.push(record.id);
    else if (outcome !== 'foreign') quarantined.push({ id: record.id, reason: outcome.quarantined });
  });
  for (const { id, reason } of quarantined)
    context.log.warn(`Container ${id} cannot be restored and is left alone: ${reason}`);
  for (const id of removed) context.log.info(`Removed what was left of container ${id}`);
  await sweepLeftovers(context, call, known);
  void cleanUpEnded(context);
  return { restored, removed, quarantined };
}

/** What a crash kept from being cleaned up; in the background, as there may be many that need nothing. */
async function cleanUpEnded(context: Context): Promise<void> {
  for (const entry of [...context.index.all()])
    if (hasEnded(entry) && entry.removal === undefined) await repeatCleanUp(context, entry);
}

interface Candidate {
  readonly record: ContainerRecord;
  /** Ids of all storage containers. */
  readonly known: ReadonlySet<string>;
}

async function restoreOne(context: Context, call: Call, { record, known }: Candidate): Promise<Outcome> {
  try {
    const podId = podIdOf(record);
    if (podId === undefined || context.index.get(record.id) !== undefined) return 'foreign';
    const pod = context.findPod(podId);
    if (pod === undefined) {
      if (known.has(podId)) return { quarantined: `its pod ${podId} was not restored` };
      return await discard(context, call, record.id, undefined);
    }
    const directory = context.store.containers.directory(record.id);
    const text = await readNonEmpty(`${directory}/config.json`);
    // The creation was interrupted before there was a process.
    if (text === undefined) return await discard(context, call, record.id, pod);
    return await restoreFromSpec(context, call, { record, pod, directory, text });
  } catch (error) {
    return { quarantined: messageOf(error) };
  }
}

async function restoreFromSpec(
  context: Context,
  call: Call,
  { record, pod, directory, text }: { record: ContainerRecord; pod: Pod; directory: string; text: string },
): Promise<Outcome> {
  const bundle = context.store.containers.runDirectory(record.id);
  const place = { id: record.id, directory, bundle, pod };
  const saved = await readSavedState(context, directory);
  const state = await currentState(context, call, place, saved);
  if (state === undefined) return discard(context, call, record.id, pod);
  const spec = decodeSpec(text);
  shareSeccomp(spec);
  const container = containerFromSpec({
    id: record.id,
    imageId: record.imageId,
    runtimeHandler: pod.runtimeHandler,
    directory,
    bundle,
    spec,
    state,
  });
  const entry = newEntry(container);
  context.index.add(entry);
  context.index.show(entry);
  if (state.status !== 'stopped') watchInit(context, entry);
  else if (saved?.status !== 'stopped') await cleanUpAfterExit(context, entry);
  return 'restored';
}

/** Pod id of a container's record; undefined for infra containers and for those of other tools. */
function podIdOf(record: ContainerRecord): string | undefined {
  let metadata: unknown;
  try {
    metadata = JSON.parse(record.metadata);
  } catch {
    return undefined;
  }
  if (!isJsonObject(metadata)) return undefined;
  const { 'pod-id': podId, 'pod-name': podName, pod: isInfra } = metadata;
  if (typeof podId !== 'string' || typeof podName !== 'string' || podId === '' || podName === '') return undefined;
  return isInfra === true || podId === record.id ? undefined : podId;
}

/** Missing, empty or cut off after a power loss: undefined, and the process tells the rest. */
async function readSavedState(context: Context, directory: string): Promise<SavedState | undefined> {
  const text = await readNonEmpty(`${directory}/state.json`);
  if (text === undefined) return undefined;
  try {
    return decodeState(text);
  } catch (error) {
    context.log.warn(`read "${directory}/state.json"`, error);
    return undefined;
  }
}

interface Place {
  readonly id: string;
  readonly directory: string;
  readonly bundle: string;
  readonly pod: Pod;
}

/** What is true now; undefined when the container was never made. */
async function currentState(
  context: Context,
  call: Call,
  place: Place,
  saved: SavedState | undefined,
): Promise<ContainerState | undefined> {
  if (saved === undefined) return stateFromRuntime(context, call, place);
  const { createdAtNs: _, ...state } = saved;
  if (saved.status === 'stopped' && saved.exitCode !== undefined) return state;
  if (saved.init !== undefined && context.processes.isAlive(saved.init)) {
    // Only the runtime knows whether it was started, or paused, before the earlier daemon could write it down.
    if (saved.status === 'running') return state;
    const reported = await askRuntime(context, call, place);
    if (reported === 'no answer') return { ...state, status: 'unknown' };
    const status = reported === undefined || reported.status === 'stopped' ? saved.status : statusOf(reported);
    const startedAtNs = status !== 'created' && state.startedAtNs === 0n ? saved.createdAtNs : state.startedAtNs;
    return { ...state, status, startedAtNs };
  }
  const exit = (await readExit(place)) ?? (await deriveExit(context, place));
  return { ...state, ...exit, status: 'stopped', oomKilled: exit.oomKilled || state.oomKilled };
}

/**
 * Without a state file the creation was interrupted, and nobody has been told of the container; unless it was started,
 * which happens only to one whose file was lost.
 */
async function stateFromRuntime(context: Context, call: Call, place: Place): Promise<ContainerState | undefined> {
  const reported = await askRuntime(context, call, place);
  const exit = await readExit(place);
  const base = {
    init: undefined,
    monitor: await findMonitor(context.processes, place),
    startedAtNs: 0n,
    finishedAtNs: 0n,
    exitCode: undefined,
    oomKilled: false,
    seccompKilled: false,
    error: '',
  };
  if (reported === 'no answer') {
    return exit === undefined ? { ...base, status: 'unknown' } : { ...base, ...exit, status: 'stopped' };
  }
  const isUp = reported?.status === 'running' || reported?.status === 'paused';
  if (!isUp && exit === undefined && reported?.status !== 'stopped') return undefined;
  if (isUp) {
    const init = context.processes.identify(reported.pid);
    return { ...base, init, status: statusOf(reported), startedAtNs: context.clock.nowNs() };
  }
  return { ...base, ...(exit ?? (await deriveExit(context, place))), status: 'stopped' };
}

function statusOf({ status }: RuntimeState): 'created' | 'running' | 'paused' | 'stopped' {
  return status === 'creating' ? 'created' : status;
}

/** A runtime that fails, on a node that is short of something say, is asked again; one that hung is not. */
async function askRuntime(
  context: Context,
  call: Call,
  { id, pod }: Place,
): Promise<RuntimeState | 'no answer' | undefined> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await runtimeFor(context, pod.runtimeHandler).state(call, id);
    } catch (error) {
      if (attempt < attempts && kindOf(error) !== 'deadline') {
        await context.clock.sleep(retryPauseMs);
        continue;
      }
      context.log.warn(`The state of container ${id} is unknown`, error);
      return 'no answer';
    }
  }
}

async function discard(context: Context, call: Call, id: string, pod: Pod | undefined): Promise<Outcome> {
  await discardContainer(context, call, id, pod?.runtimeHandler);
  return 'removed';
}

async function forEachBounded<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(parallelism, items.length) }, worker));
}
