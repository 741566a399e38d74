import { readFile, writeFile } from 'node:fs/promises';
import type { Call } from '../base/call.ts';
import { CrioError, hasCode } from '../base/errors.ts';
import type { NetworkPod } from '../network/network.ts';
import type { Context } from './context.ts';
import { replaceFile } from './files.ts';
import { stopInfra } from './infra.ts';
import { unpinPodNamespaces } from './namespaces.ts';
import type { Pod } from './pod.ts';
import { stateDirectory } from './save-state.ts';
import { unmountShm } from './shm.ts';
import { isJsonObject, escapeForHtml } from '../base/go-json.ts';
import { formatTimeNs } from '../base/clock.ts';

/**
 * The longest that containers are given. CRI says that they are ended by force here; CRI-O gives them as long as its
 * caller waits, which a client with a deadline of minutes takes for a hanging call.
 */
const longestStopMs = 10_000;

/** Stops a pod; unknown and stopped are success. The texts are CRI-O's. */
export async function stopPod(context: Context, call: Call, id: string): Promise<void> {
  refuseUnfinished(context, id, `StopPodSandbox failed as the sandbox is not created: ${id}`);
  const pod = context.index.find(id);
  if (pod === undefined) return;
  await context.locks.run(pod.id, () => stopLocked(context, call, pod));
}

export function refuseUnfinished(context: Context, id: string, text: string): void {
  if (context.creating.has(id) || context.index.isHidden(id)) throw new CrioError('failed-precondition', text);
}

/** The pod's lock is held. */
export async function stopLocked(context: Context, call: Call, pod: Pod): Promise<void> {
  pod.isStopping = true;
  try {
    await stopAll(context, call, pod);
  } finally {
    pod.isStopping = false;
  }
}

async function stopAll(context: Context, call: Call, pod: Pod): Promise<void> {
  await stopNetwork(context, pod);
  if (!pod.isReady) return;
  const timeoutMs = containerTimeout(call);
  const running = context.containersOf(pod.id).filter((container) => container.isRunning);
  await allOrFirstError(running.map((container) => context.stopContainer(call, container.id, timeoutMs)));
  await stopInfra(pod);
  unpinPodNamespaces(pod.namespacePaths.values());
  const netns = pod.namespacePaths.get('network');
  if (netns !== undefined) call.log.info(() => `Removed netns path ${netns} from pod sandbox ${pod.name}(${pod.id})`);
  if (pod.shmPath.startsWith(`${pod.runDirectory}/`)) await unmountShm(pod.shmPath);
  await markStopped(context, pod);
  call.log.info(() => `Stopped pod sandbox: ${pod.id}`);
}

/**
 * Host ports and CNI DEL, in their own time. An error fails this call, but the network counts as stopped: the next one
 * goes on.
 */
export async function stopNetwork(context: Context, pod: Pod): Promise<void> {
  if (pod.isNetworkStopped) return;
  try {
    await context.network.tearDown(networkPodOf(pod));
  } finally {
    pod.isNetworkStopped = true;
    await writeMarker(pod, 'network-stopped');
  }
}

export function networkPodOf(pod: Pod): NetworkPod {
  return {
    id: pod.id,
    name: pod.name,
    metadata: pod.metadata,
    annotations: pod.annotations,
    cgroupParent: pod.cgroupParent,
    portMappings: pod.portMappings,
    netnsPath: pod.namespacePaths.get('network') ?? '',
  };
}

/** In memory, as a marker file and in state.json; the event comes once. */
export async function markStopped(context: Context, pod: Pod): Promise<void> {
  if (!pod.isReady) return;
  pod.isReady = false;
  const timeNs = context.clock.nowNs();
  await Promise.all([writeMarker(pod, 'stopped'), finishState(pod, { timeNs })]);
  context.onEvent({ type: 'stopped', pod, timeNs });
}

/** A second less than the caller waits, half of it when that is short: it should get an answer, not a deadline. */
function containerTimeout(call: Call): number {
  const left = call.remainingMs();
  if (left === undefined) return longestStopMs;
  return left < 2000 ? Math.floor(left / 2) : Math.min(longestStopMs, left - 1000);
}

/** Waits for all, so that nothing goes on behind the caller's back. */
async function allOrFirstError(work: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

async function writeMarker(pod: Pod, name: 'stopped' | 'network-stopped'): Promise<void> {
  try {
    await writeFile(`${stateDirectory(pod)}/${name}`, '', { mode: 0o644 });
  } catch (error) {
    // The folder goes with the pod, or with a reboot.
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

/** Writes the end into state.json; the exit code is known when the monitor has told it. */
export async function finishState(pod: Pod, end: { timeNs: bigint; exitCode?: number }): Promise<void> {
  const path = `${stateDirectory(pod)}/state.json`;
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (!isJsonObject(value)) return;
    const { pid: _pid, ...kept } = value;
    const exit = end.exitCode === undefined ? {} : { exitCode: end.exitCode };
    const state = { ...kept, status: 'stopped', finished: formatTimeNs(end.timeNs), ...exit };
    await replaceFile(path, `${escapeForHtml(JSON.stringify(state))}\n`);
  } catch (error) {
    // The marker file says the same; a lost state file is not worth a failed stop.
    if (!hasCode(error, 'ENOENT') && !(error instanceof SyntaxError)) throw error;
  }
}
