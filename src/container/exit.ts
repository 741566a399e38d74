import { unlink } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';
import { hasOomFile, readExitFile } from '../runtime/exit-file.ts';
import type { ExitRecord } from '../runtime/runtime.ts';
import type { Container } from './container.ts';
import { runtimeFor, type Context } from './context.ts';
import { changeState, saveState } from './state.ts';
import { noLongerWaitedFor, type Entry } from './store.ts';

/** How a container ended. */
export interface Exit {
  readonly exitCode: number;
  /** ns since the epoch */
  readonly finishedAtNs: bigint;
  readonly oomKilled: boolean;
}

/** Exit code of a container whose monitor left no exit file. */
const unknownExitCode = 255;
/** How long a living monitor may take from the end of the process to the exit file: it drains the output first. */
const monitorLimitMs = 10_000;
/** A dead monitor writes nothing more; the file may only have been renamed a moment ago. */
const deadMonitorLimitMs = 200;
const pauseMs = 100;

/** The monitor reported an end. False when the container is not one of this feature. */
export async function handleExit(context: Context, record: ExitRecord): Promise<boolean> {
  const entry = context.index.get(record.containerId);
  if (entry === undefined) return false;
  const oomKilled = record.oomKilled || (await hasOomFile(entry.container.directory));
  recordExit(context, entry, { ...record, oomKilled });
  await cleanUpAfterExit(context, entry);
  return true;
}

/**
 * Watches the init process itself, beside the monitor's exit file: an exit is noticed also when the monitor was
 * killed, or when the notification of the file was lost.
 */
export function watchInit(context: Context, entry: Entry): void {
  const { init } = entry.container.state;
  if (init === undefined || hasEnded(entry)) return;
  context.processes
    .waitForEnd(init, entry.gone.signal)
    .then(() => settleWithoutRecord(context, entry))
    .catch((error: unknown) => {
      if (!entry.gone.signal.aborted) context.log.error(`watch container ${entry.container.id}`, error);
    });
}

/** The init process is gone: waits for the exit file, no longer than its writer lives, and then does without. */
async function settleWithoutRecord(context: Context, entry: Entry): Promise<void> {
  const { clock } = context;
  const endedMs = clock.monotonicMs();
  // Meanwhile the monitor drains the output and writes the file.
  void releaseRootfs(context, entry);
  while (!hasEnded(entry)) {
    const waitedMs = clock.monotonicMs() - endedMs;
    const exit = waitedMs === 0 ? undefined : await readExit(entry.container);
    if (exit !== undefined) {
      recordExit(context, entry, exit);
      break;
    }
    const limitMs = isMonitored(context, entry) ? monitorLimitMs : deadMonitorLimitMs;
    if (waitedMs >= limitMs) {
      context.log.warn(`Container ${entry.container.id} ended without an exit file; its exit code is unknown`);
      recordExit(context, entry, await deriveExit(context, entry.container));
      break;
    }
    await Promise.race([entry.ended.promise, clock.sleep(pauseMs)]);
  }
  await cleanUpAfterExit(context, entry);
}

function isMonitored(context: Context, { container }: Entry): boolean {
  const { monitor } = container.state;
  return monitor !== undefined && context.processes.isAlive(monitor);
}

export async function deriveExit(context: Context, container: Pick<Container, 'directory'>): Promise<Exit> {
  return {
    exitCode: unknownExitCode,
    finishedAtNs: context.clock.nowNs(),
    oomKilled: await hasOomFile(container.directory),
  };
}

/** What the monitor left in the container's directory; undefined when there is no (complete) exit file. */
export async function readExit({ directory }: Pick<Container, 'directory'>): Promise<Exit | undefined> {
  const exit = await readExitFile(`${directory}/exit`);
  return exit && { ...exit, oomKilled: await hasOomFile(directory) };
}

/** Sets the end in memory, once; later reports of the same end change nothing. */
export function recordExit(context: Context, entry: Entry, exit: Exit): void {
  const { container } = entry;
  if (hasEnded(entry)) return;
  // The kernel stamps files with a clock that lags by up to 4 ms: an end never lies before the start.
  const { startedAtNs } = container.state;
  const finishedAtNs = exit.finishedAtNs > startedAtNs ? exit.finishedAtNs : startedAtNs;
  changeState(container, {
    status: 'stopped',
    exitCode: exit.exitCode,
    finishedAtNs,
    oomKilled: exit.oomKilled,
  });
  entry.gone.abort(noLongerWaitedFor);
  entry.ended.resolve();
  context.log.debug(
    () => `Container ${container.id} exited with ${exit.exitCode}${exit.oomKilled ? ', OOM killed' : ''}`,
  );
  context.onEvent({ type: 'stopped', container, timeNs: finishedAtNs });
}

export function hasEnded({ container }: Entry): boolean {
  return container.state.status === 'stopped';
}

/** What an end leaves to do, once: remaining processes, the mount, the files. Errors are logged: the end stands. */
export function cleanUpAfterExit(context: Context, entry: Entry): Promise<void> {
  entry.cleanUp ??= cleanUp(context, entry);
  return entry.cleanUp;
}

/** For a container whose end is on disk: the daemon may have been killed before it had cleaned up. */
export function repeatCleanUp(context: Context, entry: Entry): Promise<void> {
  const { container } = entry;
  entry.cleanUp ??= settle(context, container, [releaseRootfs(context, entry), removeExitFile(context, container)]);
  return entry.cleanUp;
}

async function cleanUp(context: Context, entry: Entry): Promise<void> {
  const { container } = entry;
  const work = [releaseRootfs(context, entry), removeExitFile(context, container), saveState(context, entry)];
  await settle(context, container, work);
}

async function settle({ log }: Context, { id }: Container, work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'rejected') log.warn(`clean up after container ${id}`, result.reason);
  }
}

/** Ends what still runs in the container and unmounts its root file system, once. Never rejects. */
function releaseRootfs(context: Context, entry: Entry): Promise<void> {
  const { container } = entry;
  const release = async () => {
    try {
      await killLeftovers(context, container);
      await context.store.containers.unmount(container.id);
    } catch (error) {
      context.log.warn(`unmount container ${container.id}`, error);
    }
  };
  entry.released ??= release();
  return entry.released;
}

/**
 * The end of a PID namespace's init ends all its processes. A container in somebody else's PID namespace leaves the
 * ones its init had started; they are found by their cgroup.
 */
async function killLeftovers(context: Context, container: Container): Promise<void> {
  const namespace = container.spec.linux?.namespaces?.find(({ type }) => type === 'pid');
  if (namespace !== undefined && namespace.path === undefined) return;
  const path = context.cgroupPath(container);
  if (path === undefined)
    await runtimeFor(context, container.runtimeHandler).kill(context.ownCall('stop'), container.id, 9, { all: true });
  else await context.cgroups.killAll(path);
}

async function removeExitFile({ config }: Context, { id }: Container): Promise<void> {
  try {
    await unlink(`${config().runtime.containerExitsDir}/${id}`);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR')) throw error;
  }
}
