import { closeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Call } from '../base/call.ts';
import type { ProcessRef } from '../runtime/runtime.ts';
import { isAlive, openProcess, signalPidfd, waitPidfd } from '../sys/process.ts';
import { runtimeOf, type Context, type HandlerOf } from './context.ts';
import type { PodPlan } from './plan.ts';
import type { Pod } from './pod.ts';
import type { PodPlaces } from './pod-of.ts';

const SIGTERM = 15;
const SIGKILL = 9;
/** The pause program ends on SIGTERM at once; another one gets this long. */
const graceMs = 1000;
const killMs = 10_000;

export interface StartedInfra {
  readonly init: ProcessRef;
  readonly monitor: ProcessRef | undefined;
  readonly startedAtNs: bigint;
}

interface InfraOptions {
  readonly plan: PodPlan;
  readonly places: PodPlaces;
  readonly handler: HandlerOf;
  readonly undo: AsyncDisposableStack;
}

/** Creates and starts the infra container: its process holds the PID namespace that the pod's containers share. */
export async function startInfra(context: Context, call: Call, options: InfraOptions): Promise<StartedInfra> {
  const { plan, places, handler, undo } = options;
  const created = await handler.runtime.create(call, {
    id: plan.id,
    name: plan.infraName,
    bundle: places.runDirectory,
    persistDir: places.directory,
    logPath: plan.logPath,
    terminal: false,
    stdin: false,
    stdinOnce: false,
    cgroupParent: plan.cgroupParent,
    timeoutMs: handler.config.containerCreateTimeout * 1000,
  });
  undo.defer(async () => {
    try {
      await handler.runtime.delete(call, plan.id);
      await removeTraces(context, plan.id);
    } catch (error) {
      context.log.error(`delete infra container ${plan.id}`, error);
    }
  });
  await handler.runtime.start(call, plan.id);
  return { init: created.init, monitor: created.monitor, startedAtNs: context.clock.nowNs() };
}

export function isInfraAlive(infra: ProcessRef | undefined): boolean {
  return infra !== undefined && isAlive(infra);
}

/** Ends the infra process and with it everything in its PID namespace; one that has ended is success. */
export async function stopInfra(pod: Pod): Promise<void> {
  const { infra } = pod;
  if (infra === undefined) return;
  const pidfd = openProcess(infra);
  if (pidfd === undefined) return;
  try {
    signalPidfd(pidfd, SIGTERM);
    if (await endsWithin(pidfd, graceMs)) return;
    signalPidfd(pidfd, SIGKILL);
    await waitPidfd(pidfd, AbortSignal.timeout(killMs));
  } finally {
    closeSync(pidfd);
  }
}

/** Deletes the container of the runtime and what the monitor left; unknown is success. */
export async function deleteInfra(context: Context, call: Call, pod: Pod): Promise<void> {
  if (pod.infraDropped) return;
  await runtimeOf(context, pod.runtimeHandler).delete(call, pod.id);
  await removeTraces(context, pod.id);
}

/** Exit file and the link to the attach socket lie outside of the bundle. */
async function removeTraces(context: Context, id: string): Promise<void> {
  const { containerExitsDir, containerAttachSocketDir } = context.config().runtime;
  await Promise.all([
    rm(`${containerExitsDir}/${id}`, { force: true }),
    rm(`${containerAttachSocketDir}/${id}`, { force: true }),
  ]);
}

async function endsWithin(pidfd: number, ms: number): Promise<boolean> {
  const timeout = AbortSignal.timeout(ms);
  try {
    await waitPidfd(pidfd, timeout);
    return true;
  } catch (error) {
    if (timeout.aborted) return false;
    throw error;
  }
}
