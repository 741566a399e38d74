import { dirname } from 'node:path';
import { Call } from '../base/call.ts';
import { systemClock } from '../base/clock.ts';
import { KeyedLock } from '../base/keyed-lock.ts';
import { Operations } from '../base/operations.ts';
import type { ExitRecord } from '../runtime/runtime.ts';
import type { PodConfig } from './config.ts';
import type { Context, PodsDeps } from './context.ts';
import { handleInfraExit } from './exit.ts';
import { PendingPods } from './pending.ts';
import type { Pod } from './pod.ts';
import { removeLocked, removePod } from './remove.ts';
import { restorePods, type RestoreReport } from './restore.ts';
import { runPod } from './run.ts';
import { stopPod } from './stop.ts';
import { PodStore } from './store.ts';

/** How long the result of a creation that nobody waits for is kept for a retry. */
const keepResultMs = 120_000;

/** The pod feature as the CRI service and the containers see it. Ids may be unique prefixes. */
export interface Pods {
  /** Returns the id; a pod that has the name already is the answer. */
  run(call: Call, config: PodConfig, handler: string): Promise<string>;
  /** Unknown and stopped are success. */
  stop(call: Call, id: string): Promise<void>;
  /** Unknown is success. */
  remove(call: Call, id: string): Promise<void>;
  /** Newest first. */
  list(): readonly Pod[];
  /** Undefined for an unknown id, an ambiguous prefix, and a pod that is not created yet. */
  find(idOrPrefix: string): Pod | undefined;
  /** By full id, already while it is being made, without its addresses then, and while nobody has taken it. */
  known(id: string): Pod | undefined;
  /** From the exits watcher; false when the id is no infra container's. */
  handleExit(record: ExitRecord): Promise<boolean>;
  /** Reads what an earlier daemon left, and cleans up what it was in the middle of. Before the containers are restored. */
  restore(call: Call): Promise<RestoreReport>;
  /** Creations that have not ended. */
  creations(): Iterable<Call>;
}

export function createPods(deps: PodsDeps): Pods {
  const context = contextOf(deps);
  const { index } = context;
  return {
    run: (call, config, handler) => runPod(context, call, config, handler),
    stop: (call, id) => stopPod(context, call, id),
    remove: (call, id) => removePod(context, call, id),
    list: () => index.list(),
    find: (idOrPrefix) => index.find(idOrPrefix),
    known: (id) => index.known(id),
    handleExit: (record) => handleInfraExit(context, record),
    restore: (call) => restorePods(context, call),
    creations: () => context.creations.calls(),
  };
}

function contextOf(deps: PodsDeps): Context {
  const creations = new Operations<Pod>({
    keepResultMs,
    takeBack: (pod) => takeBack(context, pod),
    onJoin: (call) => deps.onStalled?.(call.currentStage.name),
  });
  const context: Context = {
    onEvent: () => undefined,
    onStalled: () => undefined,
    onNetworkSetUp: () => undefined,
    shutdown: neverAborted,
    clock: systemClock,
    ...deps,
    index: new PodStore(),
    locks: new KeyedLock(),
    creations,
    creating: new Set(),
    pending: new PendingPods(`${dirname(deps.config().runtime.containerExitsDir)}/pending-pods`, deps.log),
  };
  return context;
}

/** A pod whose request was never repeated. */
async function takeBack(context: Context, pod: Pod): Promise<void> {
  if (!context.index.isHidden(pod.id)) return;
  const call = new Call({ name: pod.name, id: pod.id, log: context.log });
  await removeLocked(context, call, pod);
}

const neverAborted = new AbortController().signal;
