import { unlink } from 'node:fs/promises';
import type { Call } from '../base/call.ts';
import { CrioError, hasCode } from '../base/errors.ts';
import { describe, runtimeFor, type Context } from './context.ts';
import { hasEnded } from './exit.ts';
import { releaseMounts } from './mounts.ts';
import { stopEntry, waitWhileCalled } from './stop.ts';
import { noLongerWaitedFor, type Entry } from './store.ts';

/** Grace period of the stop that a removal of a running container begins with, when the caller has no deadline. */
const stopTimeoutMs = 10_000;
/** What is left of a caller's deadline for the removal itself. */
const reserveMs = 1000;

/**
 * Removes a container with everything that belongs to it; a running one is stopped first. Unknown is success. When it
 * fails the container stays known, and the next call goes on where this one ended.
 */
export async function removeContainer(context: Context, call: Call, idOrPrefix: string): Promise<void> {
  if (idOrPrefix === '') throw new CrioError('not-found', 'container ID should not be empty');
  const entry = context.index.find(idOrPrefix);
  if (entry === undefined) return;
  await removeEntry(context, call, entry);
  context.onEvent({ type: 'deleted', container: entry.container, timeNs: context.clock.nowNs() });
}

/**
 * Joins a removal that is under way; a caller that goes away ends only its waiting. The event of the removal is the
 * caller's affair: containers that go with their pod have none.
 */
export async function removeEntry(context: Context, call: Call, entry: Entry): Promise<void> {
  entry.removal ??= removeAll(context, entry, { name: call.name, graceMs: graceFor(call) }).catch((error: unknown) => {
    entry.removal = undefined;
    throw error;
  });
  await waitWhileCalled(call, entry.removal);
}

async function removeAll(context: Context, entry: Entry, options: { name: string; graceMs: number }): Promise<void> {
  const { container } = entry;
  const call = context.ownCall(options.name);
  if (!hasEnded(entry)) {
    call.stage('container stop');
    await stopEntry(context, call, entry, options.graceMs);
  }
  call.stage('container removal');
  await entry.cleanUp;
  await entry.saved;
  await releaseMounts(context, container);
  await deleteEverywhere(context, call, entry);
  entry.gone.abort(noLongerWaitedFor);
  context.index.remove(entry);
  context.onRemoved(container);
  context.log.info(() => `Removed container ${container.id}: ${describe(container)}`);
}

/** The runtime's own record and the storage have nothing to do with each other, unless hooks still need the bundle. */
async function deleteEverywhere(context: Context, call: Call, entry: Entry): Promise<void> {
  const { id, spec } = entry.container;
  const hasHooks = (spec.hooks?.poststop?.length ?? 0) > 0;
  if (hasHooks) await deleteRuntimeRecord(context, call, entry);
  const work = [
    ...(hasHooks ? [] : [deleteRuntimeRecord(context, call, entry)]),
    context.store.containers.delete(id),
    removeLeftoverFiles(context, id),
  ];
  // All of them come to an end before a retry may begin.
  const failed = (await Promise.allSettled(work)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
}

function graceFor(call: Call): number {
  const remainingMs = call.remainingMs();
  return remainingMs === undefined ? stopTimeoutMs : Math.max(0, remainingMs - reserveMs);
}

/**
 * A process that outlived the container (an orphan of a killed exec) keeps the cgroup busy: some runtimes fail then,
 * others leave the cgroup behind.
 */
async function deleteRuntimeRecord(context: Context, call: Call, { container }: Entry): Promise<void> {
  const { cgroups, log } = context;
  const runtime = runtimeFor(context, container.runtimeHandler);
  const path = context.cgroupPath(container);
  try {
    await runtime.delete(call, container.id);
  } catch (error) {
    if (path === undefined) throw error;
    log.warn(`delete container ${container.id}, trying again`, error);
    await cgroups.killAll(path);
    await runtime.delete(call, container.id);
  }
  if (path === undefined || !cgroups.exists(path)) return;
  await cgroups.killAll(path);
  await cgroups.removeCgroup(path).catch((error: unknown) => log.warn(`container ${container.id}`, error));
}

/** The exit file, and the attach link that conmon 2.1.6 leaves behind. */
export async function removeLeftoverFiles({ config }: Context, id: string): Promise<void> {
  const { containerExitsDir, containerAttachSocketDir } = config().runtime;
  await Promise.all(
    [`${containerExitsDir}/${id}`, `${containerAttachSocketDir}/${id}`].map(async (path) => {
      try {
        await unlink(path);
      } catch (error) {
        if (!hasCode(error, 'ENOENT', 'ENOTDIR')) throw error;
      }
    }),
  );
}
