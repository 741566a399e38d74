import { randomUUID } from 'node:crypto';
import { Call } from '../base/call.ts';
import { systemClock } from '../base/clock.ts';
import { KeyedLock } from '../base/keyed-lock.ts';
import { Operations } from '../base/operations.ts';
import type { ContainerId, PodId } from '../base/ids.ts';
import { resolveCgroupsPath } from '../cgroup/path.ts';
import type { LinuxResources } from '../pod/config.ts';
import type { ExitRecord } from '../runtime/runtime.ts';
import type { Container } from './container.ts';
import type { ContainersDeps, Context } from './context.ts';
import { createContainer, type CreateRequest } from './create.ts';
import { execSync, requireExecutable, type ExecSyncOutput, type ExecSyncRequest } from './exec-sync.ts';
import { handleExit } from './exit.ts';
import { listContainers, type ContainerFilter } from './list.ts';
import { watchMonitors } from './monitor-watch.ts';
import { pauseContainer, resumeContainer } from './pause.ts';
import { hostProcesses } from './processes.ts';
import { removeContainer, removeEntry } from './remove.ts';
import { reopenLog } from './reopen-log.ts';
import { restoreContainers, type RestoreReport } from './restore.ts';
import { startContainer } from './start.ts';
import { writeState } from './state-file.ts';
import { stopContainer, stopEntry } from './stop.ts';
import { ContainerStore, noLongerWaitedFor, type Entry } from './store.ts';
import { updateContainer } from './update.ts';

/** How long the result of a creation that nobody waits for is kept for a retry. */
const keepResultMs = 120_000;

/** The container feature as the CRI service and the pods see it. Ids may be unique prefixes. */
export interface Containers extends Disposable {
  /** Returns the id. */
  create(call: Call, request: CreateRequest): Promise<ContainerId>;
  start(call: Call, id: string): Promise<void>;
  /** Unknown and stopped are success. */
  stop(call: Call, id: string, timeoutMs: number): Promise<void>;
  /** Unknown is success. Emits the event `deleted`. */
  remove(call: Call, id: string): Promise<void>;
  list(filter?: ContainerFilter): readonly Container[];
  find(id: string): Container | undefined;
  /** By full id, already while it is being created and while nobody has taken it. */
  known(id: string): Container | undefined;
  /** Throws not-found with CRI-O's text. */
  status(call: Call, id: string): Promise<Container>;
  /** Visible ones of a pod, newest first. */
  ofPod(podId: PodId): readonly Container[];
  execSync(call: Call, id: string, request: ExecSyncRequest): Promise<ExecSyncOutput>;
  /** Pids of all processes of the container now, by its cgroup; by full id, none of an unknown one. */
  processes(id: string): readonly number[];
  /** Throws when no exec may start in the container now. */
  requireExecutable(id: string): Container;
  reopenLog(call: Call, id: string): Promise<void>;
  updateResources(call: Call, id: string, resources: LinuxResources | undefined): Promise<void>;
  pause(call: Call, id: string): Promise<void>;
  resume(call: Call, id: string): Promise<void>;
  /** Reads what an earlier daemon left; pods must be restored before. */
  restore(call: Call): Promise<RestoreReport>;
  /** From the exits watcher; false when the id is no container's (an infra container's, say). */
  handleExit(record: ExitRecord): Promise<boolean>;
  /** All of a pod, also those whose creation nobody has taken yet; for the pod's stop and removal. */
  allOfPod(podId: PodId): readonly Container[];
  /** As `stop`, also for one that nobody has taken yet. */
  stopForPod(call: Call, id: string, timeoutMs: number): Promise<void>;
  /** As `remove`, without an event, also for one that nobody has taken yet. */
  removeForPod(call: Call, id: string): Promise<void>;
  /** Looks at all monitors now; it happens by itself every 10 s. */
  checkMonitors(): Promise<void>;
  /** Creations that have not ended. */
  creations(): Iterable<Call>;
}

export function createContainers(deps: ContainersDeps): Containers {
  const context = contextOf(deps);
  const { index } = context;
  const known = (id: string) => index.get(id);
  const monitors = watchMonitors(context);
  return {
    create: async (call, request) => (await createContainer(context, call, request)).id,
    start: (call, id) => startContainer(context, call, id),
    stop: (call, id, timeoutMs) => stopContainer(context, call, id, timeoutMs),
    remove: (call, id) => removeContainer(context, call, id),
    list: (filter = {}) => listContainers(index, filter, (prefix) => context.findPod(prefix)?.id),
    find: (id) => index.find(id)?.container,
    known: (id) => index.known(id),
    status: async (_, id) => index.require(id).container,
    ofPod: (podId) => index.ofPodNewestFirst(podId),
    execSync: (call, id, request) => execSync(context, call, id, request),
    processes(id) {
      const container = index.known(id);
      const path = container && context.cgroupPath(container);
      return path === undefined ? [] : context.cgroups.processes(path);
    },
    requireExecutable(id) {
      const entry = index.require(id);
      requireExecutable(entry);
      return entry.container;
    },
    reopenLog: (call, id) => reopenLog(context, call, id),
    updateResources: (call, id, resources) => updateContainer(context, call, id, resources),
    pause: (call, id) => pauseContainer(context, call, id),
    resume: (call, id) => resumeContainer(context, call, id),
    restore: (call) => restoreContainers(context, call),
    handleExit: (record) => handleExit(context, record),
    allOfPod: (podId) => index.ofPod(podId).map((entry) => entry.container),
    async stopForPod(call, id, timeoutMs) {
      const entry = known(id);
      if (entry !== undefined) await stopEntry(context, call, entry, timeoutMs);
    },
    async removeForPod(call, id) {
      const entry = known(id);
      if (entry !== undefined) await removeEntry(context, call, entry);
    },
    checkMonitors: () => monitors.check(),
    creations: () => context.creations.calls(),
    [Symbol.dispose]() {
      monitors[Symbol.dispose]();
      for (const entry of index.all()) entry.gone.abort(noLongerWaitedFor);
    },
  };
}

function contextOf(deps: ContainersDeps): Context {
  const ownCall = (name: string) => new Call({ name, id: randomUUID(), log: deps.log, onStage: deps.onStage });
  const context: Context = {
    clock: systemClock,
    processes: hostProcesses,
    writeState,
    onEvent: () => {},
    onMonitorLost: () => {},
    onRemoved: () => {},
    onStalled: () => {},
    verifyImage: async () => {},
    ...deps,
    index: new ContainerStore(),
    ownCall,
    locks: new KeyedLock(),
    cgroupPath: ({ spec }) => {
      const path = spec.linux?.cgroupsPath;
      return path === undefined ? undefined : resolveCgroupsPath(path);
    },
    isHostProcess: ({ runtimeHandler }) => {
      const { runtimes, defaultRuntime } = deps.config().runtime;
      return runtimes.get(runtimeHandler === '' ? defaultRuntime : runtimeHandler)?.runtimeType !== 'vm';
    },
    creations: new Operations<Entry>({
      keepResultMs,
      takeBack: (entry) => removeEntry(context, ownCall('take back'), entry),
      onJoin: (call) => deps.onStalled?.(call.currentStage.name),
    }),
  };
  return context;
}
