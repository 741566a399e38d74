import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import type { Logger } from '../base/log.ts';
import { openCgroups, type Cgroups } from '../cgroup/cgroups.ts';
import { defaultConfig, type Config } from '../config/config.ts';
import type { Image } from '../image/images.ts';
import { createNetwork, type Network } from '../network/network.ts';
import type { ContainerRuntime, CreateOptions } from '../runtime/runtime.ts';
import type { HostFacts, SpecSettings } from '../runtime/spec/input.ts';
import type { ContainerRecord, ContainerStore } from '../storage/store.ts';
import { readMountInfo } from '../sys/mount.ts';
import { startTime } from '../sys/process.ts';
import { run } from '../sys/run.ts';
import { spawn, type ChildHandle } from '../sys/spawn.ts';
import type { PodConfig } from './config.ts';
import type { PodContainer, PodEvent, PodsDeps } from './context.ts';
import { createPods, type Pods } from './pods.ts';

/** A node for the tests of this feature: real namespaces, mounts, cgroups and CNI plugins; store and runtime are fakes. */
export interface TestWorld extends AsyncDisposable {
  readonly folder: string;
  readonly pods: Pods;
  readonly network: Network;
  readonly cgroups: Cgroups;
  readonly events: PodEvent[];
  readonly stopped: string[];
  readonly removed: string[];
  readonly containers: Map<string, PodContainer[]>;
  readonly runtime: FakeRuntime;
  readonly store: FakeStore;
  readonly config: Config;
  /** A daemon that is started anew on what is on disk. */
  restart(changes?: Partial<PodsDeps>): Promise<Pods>;
}

/** Everything that a pod must not leave behind. */
export function traces(world: TestWorld): string[] {
  const run = join(world.folder, 'run');
  const pins = ['netns', 'ipcns', 'utsns', 'userns'].flatMap((kind) => listOf(join(run, kind)));
  const mounts = readMountInfo()
    .map((entry) => entry.mountPoint)
    .filter((path) => path.startsWith(world.folder));
  const addresses = listOf(join(world.folder, 'ipam'))
    .flatMap((name) => listOf(join(world.folder, 'ipam', name)))
    .filter((name) => /^\d/.test(name));
  const cgroups = [...world.cgroups.hierarchies.controllers.values()]
    .flatMap((path) => listOf(`${path}/pods-root-test`))
    .filter((name) => name.startsWith('crio-'));
  const records = ['cni/results', 'run/crio/pending-pods', 'graph', 'runroot'].flatMap((name) =>
    listOf(join(world.folder, name)),
  );
  return [...pins, ...mounts, ...addresses, ...cgroups, ...records];
}

export function listOf(path: string): string[] {
  return isThere(path) ? readdirSync(path) : [];
}

function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

export function testCall(
  options: { deadlineMs?: number; signal?: AbortSignal; log?: Logger; onStage?: (stage: string) => void } = {},
): Call {
  const { onStage, ...rest } = options;
  return new Call({
    name: 'test',
    id: '1',
    log: silentLog,
    ...rest,
    ...(onStage === undefined ? {} : { onStage: (_call, stage) => onStage(stage) }),
  });
}

let worlds = 0;

export interface TestWorldOptions {
  readonly runtime?: Partial<Config['runtime']>;
  readonly network?: boolean;
  /** An existing one, of a process that was killed. */
  readonly folder?: string;
  readonly pluginDirs?: readonly string[];
}

export async function makeTestWorld(changes: TestWorldOptions = {}): Promise<TestWorld> {
  worlds += 1;
  const folder = changes.folder ?? mkdtempSync(join(tmpdir(), 'pods-root-'));
  const bridge = `podtest${worlds}`;
  const config = makeConfig(folder, changes);
  if (changes.network !== false && changes.folder === undefined) writeNetwork(folder, bridge);
  const cgroups = openCgroups({ manager: 'cgroupfs' });
  const state = {
    events: [] as PodEvent[],
    stopped: [] as string[],
    removed: [] as string[],
    containers: new Map<string, PodContainer[]>(),
  };
  const runtime = new FakeRuntime();
  const store = new FakeStore(folder);
  let network = await openNetwork(config, folder);
  const deps = (): PodsDeps => ({
    config: () => config,
    store: { containers: store },
    images: { find: async () => pauseImage, pull: async () => pauseImage },
    runtimes: new Map([['crun', runtime]]),
    network,
    cgroups,
    host,
    specSettings: () => settings,
    chooseSeccomp: () => ({ profile: undefined, path: '' }),
    containersOf: (podId) => state.containers.get(podId) ?? [],
    stopContainer: async (_call, id) => void state.stopped.push(id),
    removeContainer: async (_call, id) => void state.removed.push(id),
    onEvent: (event) => state.events.push(event),
    log: silentLog,
  });
  return {
    folder,
    pods: createPods(deps()),
    get network() {
      return network;
    },
    cgroups,
    ...state,
    runtime,
    store,
    config,
    async restart(more = {}) {
      await network[Symbol.asyncDispose]();
      network = await openNetwork(config, folder);
      return createPods({ ...deps(), ...more });
    },
    async [Symbol.asyncDispose]() {
      await network[Symbol.asyncDispose]();
      await runtime.killAll();
      await run({ file: 'ip', args: ['link', 'delete', bridge], env: { PATH: process.env['PATH'] ?? '' } });
      await cgroups.removeCgroup('/pods-root-test');
      rmSync(folder, { recursive: true });
    },
  };
}

function openNetwork(config: Config, folder: string): Promise<Network> {
  return createNetwork({ config, log: silentLog, cacheDir: join(folder, 'cni') });
}

function makeConfig(folder: string, { runtime = {}, pluginDirs = ['/usr/lib/cni'] }: TestWorldOptions): Config {
  const base = defaultConfig();
  return {
    ...base,
    crio: { ...base.crio, logDir: join(folder, 'logs') },
    runtime: {
      ...base.runtime,
      cgroupManager: 'cgroupfs',
      namespacesDir: join(folder, 'run'),
      containerExitsDir: join(folder, 'run/crio/exits'),
      containerAttachSocketDir: join(folder, 'run/crio'),
      disableHostportMapping: true,
      ...runtime,
    },
    network: { ...base.network, networkDir: join(folder, 'net.d'), pluginDirs: [...pluginDirs] },
  };
}

function writeNetwork(folder: string, bridge: string): void {
  mkdirSync(join(folder, 'net.d'), { recursive: true });
  const ipam = { type: 'host-local', dataDir: join(folder, 'ipam'), ranges: [[{ subnet: '10.98.0.0/24' }]] };
  const list = { cniVersion: '1.0.0', name: bridge, plugins: [{ type: 'bridge', bridge, isGateway: true, ipam }] };
  writeFileSync(join(folder, 'net.d/10.conflist'), JSON.stringify(list));
}

export const pauseImage: Image = {
  id: 'a'.repeat(64),
  repoTags: ['registry.k8s.io/pause:3.10.1'],
  repoDigests: [],
  digest: undefined,
  sizeBytes: 1,
  pinned: true,
  topLayer: undefined,
  config: {
    user: '',
    env: [],
    entrypoint: ['/pause'],
    cmd: [],
    workingDir: '',
    labels: new Map(),
    stopSignal: '',
    volumes: [],
    architecture: 'amd64',
    os: 'linux',
    document: {},
  },
  annotations: new Map(),
};

const settings: SpecSettings = {
  cgroupManager: 'cgroupfs',
  defaultCapabilities: ['CAP_KILL'],
  addInheritableCapabilities: false,
  defaultEnv: [],
  defaultUlimits: [],
  pidsLimit: -1,
  readOnly: false,
  infraCtrCpuset: '',
  hostnetworkDisableSelinux: true,
  containerMinMemory: 0,
  privilegedWithoutHostDevices: false,
};

const host: HostFacts = {
  architecture: 'amd64',
  boundingCapabilities: ['CAP_KILL'],
  kernelCapabilities: ['CAP_KILL'],
  cgroupV2: false,
  controllers: new Set(['cpu']),
  memorySwap: false,
  lowestOomScoreAdj: 0,
  seccomp: false,
  apparmor: false,
  selinux: false,
  thermalThrottlePaths: [],
};

export function podConfig(name: string, changes: Partial<PodConfig> = {}): PodConfig {
  return {
    metadata: { name, uid: `uid-${name}`, namespace: 'default', attempt: 0 },
    hostname: `${name}-host`,
    logDirectory: '',
    dns: { servers: ['10.0.0.10'], searches: ['a.b', 'c'], options: ['ndots:5'] },
    portMappings: [],
    labels: new Map([['app', name]]),
    annotations: new Map([['note', 'a "quoted" <value>']]),
    cgroupParent: '/pods-root-test',
    securityContext: {
      namespaceOptions: { network: 0, pid: 1, ipc: 0, targetId: '', userns: undefined },
      selinux: undefined,
      runAsUser: undefined,
      runAsGroup: undefined,
      readonlyRootfs: false,
      supplementalGroups: [],
      supplementalGroupsPolicy: 'merge',
      privileged: false,
      seccomp: undefined,
      apparmor: undefined,
    },
    sysctls: new Map([['net.ipv4.ip_unprivileged_port_start', '0']]),
    overhead: undefined,
    resources: undefined,
    ...changes,
  };
}

/** Folders and records, without layers and mounts. */
export class FakeStore implements ContainerStore {
  readonly #folder: string;
  /** Thrown by the next `mount`. */
  failMount: Error | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async list(): Promise<readonly ContainerRecord[]> {
    const graph = join(this.#folder, 'graph');
    return listOf(graph).flatMap((id) => this.#read(id) ?? []);
  }

  async find(id: string): Promise<ContainerRecord | undefined> {
    return this.#read(id);
  }

  #read(id: string): ContainerRecord | undefined {
    const path = join(this.#folder, 'graph', id, 'record.json');
    if (!isThere(path)) return undefined;
    const record: Omit<ContainerRecord, 'createdNs'> = JSON.parse(readFileSync(path, 'utf8'));
    return { ...record, createdNs: 1n };
  }

  async create(options: Parameters<ContainerStore['create']>[0]): Promise<ContainerRecord> {
    const { id, names, imageId, metadata, mountLabel, uidMap, gidMap } = options;
    const record = { id, names, imageId, layerId: id, metadata, mountLabel, uidMap, gidMap };
    mkdirSync(this.directory(id), { recursive: true, mode: 0o700 });
    mkdirSync(this.runDirectory(id), { recursive: true, mode: 0o700 });
    writeFileSync(join(this.#folder, 'graph', id, 'record.json'), JSON.stringify(record));
    return { ...record, createdNs: 1n };
  }

  async setMetadata(): Promise<void> {}

  async delete(id: string): Promise<void> {
    rmSync(join(this.#folder, 'graph', id), { recursive: true, force: true });
    rmSync(join(this.#folder, 'runroot', id), { recursive: true, force: true });
  }

  async mount(id: string): Promise<string> {
    if (this.failMount !== undefined) throw this.failMount;
    return this.mountPoint(id);
  }

  async unmount(): Promise<void> {}

  directory(id: string): string {
    return join(this.#folder, 'graph', id, 'userdata');
  }

  runDirectory(id: string): string {
    return join(this.#folder, 'runroot', id, 'userdata');
  }

  async rootWasLost(): Promise<boolean> {
    return false;
  }

  upperDirectory(): string | undefined {
    return undefined;
  }

  mountPoint(id: string): string {
    return join(this.#folder, 'graph', id, 'merged');
  }
}

/** Starts `sleep` for each container. */
export class FakeRuntime implements ContainerRuntime {
  readonly handler = 'crun';
  readonly features = {
    version: 'crun version 0',
    ociVersion: '1.0.0',
    recursiveReadOnlyMounts: false,
    idmapMounts: false,
  };
  readonly calls: string[] = [];
  readonly #children = new Map<string, ChildHandle>();
  /** Thrown by the next `start`. */
  failStart: Error | undefined;

  async create(_call: Call, options: CreateOptions) {
    this.calls.push(`create ${options.id}`);
    const child = spawn({ file: 'sleep', args: ['1000'], env: { PATH: process.env['PATH'] ?? '' } });
    this.#children.set(options.id, child);
    return { init: { pid: child.pid, startTime: startTime(child.pid) ?? '' }, monitor: undefined };
  }

  async start(_call: Call, id: string) {
    this.calls.push(`start ${id}`);
    if (this.failStart !== undefined) throw this.failStart;
  }

  async delete(_call: Call, id: string) {
    this.calls.push(`delete ${id}`);
    const child = this.#children.get(id);
    child?.kill(9);
    await child?.exited;
    this.#children.delete(id);
  }

  async killAll() {
    for (const child of this.#children.values()) child.kill(9);
    await Promise.all([...this.#children.values()].map((child) => child.exited));
  }

  async state() {
    return undefined;
  }

  async kill() {}
  async pause() {}
  async resume() {}
  async update() {}
  async reopenLog() {}

  execSync(): never {
    throw new Error('not used here');
  }

  execStream(): never {
    throw new Error('not used here');
  }

  attach(): never {
    throw new Error('not used here');
  }
}
