import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { Call } from '../base/call.ts';
import { isThere } from '../base/is-there.ts';
import { isNamespaceFile } from '../network/netns-file.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import { endProcesses } from '../sys/end-processes.ts';
import { decodeSpec } from '../runtime/spec/spec-json.ts';
import type { ContainerRecord } from '../storage/store.ts';
import type { Context } from './context.ts';
import { isInfraAlive } from './infra.ts';
import { planNamespaces } from './namespace-plan.ts';
import { unpinPodNamespaces } from './namespaces.ts';
import type { PendingPod } from './pending.ts';
import type { Pod } from './pod.ts';
import { podFromMetadata, podFromSpec } from './restored-pod.ts';
import { stateDirectory } from './save-state.ts';
import { unmountShm } from './shm.ts';
import { parsePodState } from './state-file.ts';
import { parseStorageMetadata, type StoredPod } from './storage-metadata.ts';

export interface RestoreReport {
  readonly restored: number;
  /** Pods of which only the storage record could be read: they are listed as not ready, so that they can be removed. */
  readonly damaged: readonly string[];
  /** Pods that were being made when the earlier daemon ended. */
  readonly undone: readonly string[];
  /** Resolves when their networks and namespaces are gone too: plugins may take their time. Never rejects. */
  readonly settled: Promise<void>;
}

const parallel = 16;

/** Reads what an earlier daemon, ours or CRI-O, left. One bad record never keeps the others from coming back. */
export async function restorePods(context: Context, call: Call): Promise<RestoreReport> {
  const pending = context.pending.list();
  const left = new Set<string>();
  await inParallel(pending, parallel, (pod) => undoQuickly(context, pod, () => left.add(pod.id)));
  const settled = inParallel(pending, parallel, (pod) => undoNetwork(context, pod, { keepRecord: left.has(pod.id) }));
  const undone = pending.map((pod) => pod.id);
  const records = (await context.store.containers.list()).filter((record) => !undone.includes(record.id));
  const stored = records.flatMap((record) => {
    const pod = parseStorageMetadata(record.metadata);
    return pod === undefined || pod.id !== record.id ? [] : [{ record, pod }];
  });
  const damaged: string[] = [];
  await inParallel(stored, parallel, async ({ record, pod }) => {
    const restored = await restoreOne(context, { record, stored: pod, onDamage: () => damaged.push(record.id) });
    context.index.add(restored);
    context.index.publish(restored);
  });
  call.log.info(() => `Restored ${stored.length} pods (${damaged.length} of them damaged), undid ${undone.length}`);
  return { restored: stored.length, damaged, undone, settled };
}

interface RestoreRequest {
  readonly record: ContainerRecord;
  readonly stored: StoredPod;
  readonly onDamage: () => void;
}

async function restoreOne(context: Context, request: RestoreRequest): Promise<Pod> {
  const { record, stored } = request;
  const places = {
    directory: context.store.containers.directory(record.id),
    runDirectory: context.store.containers.runDirectory(record.id),
  };
  try {
    const pod = podFromSpec({ spec: await readEitherSpec(places), stored, places });
    await restoreLife(pod);
    return pod;
  } catch (error) {
    request.onDamage();
    context.log.warn(`Pod ${stored.name} (${record.id}) cannot be restored, it is listed as not ready`, error);
    const namespacePaths = await findPins(context, record.id);
    return podFromMetadata({ stored, places, record, namespacePaths });
  }
}

/** All pins of a pod have one name, and the network's record has the path of one of them. */
async function findPins(context: Context, podId: string): Promise<Pod['namespacePaths']> {
  const netns = await context.network.recordedNetns(podId);
  if (netns === undefined) return new Map();
  const { namespacesDir } = context.config().runtime;
  const { paths } = planNamespaces({
    namespacesDir,
    uuid: basename(netns),
    namespaces: noNamespaces,
    hasUserNamespace: true,
  });
  const found = await Promise.all(
    [...paths].map(async ([kind, path]) => ((await isNamespaceFile(path)) ? [[kind, path] as const] : [])),
  );
  return new Map(found.flat());
}

const noNamespaces = { network: 0, pid: 0, ipc: 0, targetId: '', userns: undefined } as const;

/** There are two copies, and a power cut may have left one of them empty. */
async function readEitherSpec(places: { directory: string; runDirectory: string }): Promise<Spec> {
  try {
    return decodeSpec(await readFile(`${places.directory}/config.json`, 'utf8'));
  } catch (error) {
    try {
      return decodeSpec(await readFile(`${places.runDirectory}/config.json`, 'utf8'));
    } catch {
      throw error;
    }
  }
}

/** Whether the pod still is what its files say: what cannot be confirmed makes it not ready. */
async function restoreLife(pod: Pod): Promise<void> {
  const folder = stateDirectory(pod);
  const [isStopped, isNetworkStopped, state] = await Promise.all([
    isThere(`${folder}/stopped`),
    isThere(`${folder}/network-stopped`),
    readState(`${folder}/state.json`),
  ]);
  pod.isNetworkStopped = pod.hostNetwork || isNetworkStopped;
  if (state === undefined || isStopped || state.isStopped) return;
  if (!pod.infraDropped) {
    if (!isInfraAlive(state.init)) return;
    pod.infra = state.init;
  }
  const pinned = await Promise.all([...pod.namespacePaths.values()].map(isNamespaceFile));
  pod.isReady = pinned.every((isPinned) => isPinned);
}

async function readState(path: string): Promise<ReturnType<typeof parsePodState> | undefined> {
  try {
    return parsePodState(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * Takes back what a daemon that was killed was in the middle of. First all that a new request for the same name would
 * run into.
 */
async function undoQuickly(context: Context, pod: PendingPod, onFailure: () => void): Promise<void> {
  try {
    // A monitor and a runtime that still make the infra container have its id among their arguments.
    await endProcesses('cmdline', pod.id);
    for (const runtime of context.runtimes.values()) {
      const call = new Call({ name: 'restore pods', id: pod.id, log: context.log });
      const known = await runtime.state(call, pod.id);
      if (known !== undefined) await runtime.delete(call, pod.id);
    }
    if (pod.shmPath !== '') await unmountShm(pod.shmPath);
    if (pod.cgroup !== '') await context.cgroups.removeCgroup(pod.cgroup);
    await context.store.containers.delete(pod.id);
  } catch (error) {
    onFailure();
    context.log.warn(`undo pod ${pod.id}, which was being created when the daemon ended`, error);
  }
}

/** Plugins want the namespace, so it goes last. The record of what was made goes with it, unless something is left. */
async function undoNetwork(context: Context, pod: PendingPod, options: { keepRecord: boolean }): Promise<void> {
  try {
    await context.network.release(pod.id);
  } catch (error) {
    context.log.warn(`remove network of pod ${pod.id}, which was being created when the daemon ended`, error);
  }
  try {
    unpinPodNamespaces(pod.namespacePaths);
    if (options.keepRecord) return;
    context.pending.remove(pod.id);
    context.log.info(`Undid pod ${pod.id}, which was being created when the daemon ended`);
  } catch (error) {
    context.log.warn(`undo pod ${pod.id}, which was being created when the daemon ended`, error);
  }
}

async function inParallel<T>(items: readonly T[], limit: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  await Promise.all(
    Array.from({ length: Math.min(limit, items.length) }, async () => {
      for (const item of queue) await work(item);
    }),
  );
}
