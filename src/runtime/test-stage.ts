import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Call } from '../base/call.ts';
import { hasCode } from '../base/errors.ts';
import { newId } from '../base/ids.ts';
import { silentLog } from '../base/log.ts';
import type { Logger } from '../base/log.ts';
import type { RuntimeCommand } from './command.ts';
import { runtimeEnvironment } from './command.ts';
import type { MonitorSettings } from './conmon.ts';
import { detectFeatures } from './features.ts';
import { createOciRuntime } from './oci.ts';
import type { ContainerRuntime, CreateOptions } from './runtime.ts';
import type { Spec } from './spec/oci.ts';

/** Folders, a busybox root file system and a real runtime for root tests; everything lies below one folder. */
export interface Stage extends AsyncDisposable {
  readonly folder: string;
  readonly command: RuntimeCommand;
  readonly monitor: MonitorSettings;
  readonly runtime: ContainerRuntime;
  /** State directories that `onCreated` was told. */
  readonly created: string[];
  /** Writes a bundle; `change` edits its spec. */
  bundle(args: readonly string[], change?: (spec: Spec) => void): CreateOptions;
  call(signal?: AbortSignal): Call;
}

const applets = ['sh', 'sleep', 'cat', 'echo', 'true', 'head', 'yes', 'setsid', 'ps', 'kill', 'stty', 'ls'];

export async function createStage(program: string, log: Logger = silentLog): Promise<Stage> {
  const folder = mkdtempSync(join(tmpdir(), `runtime-${program}-`));
  for (const name of ['exits', 'sockets', 'state', 'logs', 'rootfs/bin', 'rootfs/proc', 'rootfs/dev', 'rootfs/tmp']) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  cpSync('/bin/busybox', join(folder, 'rootfs/bin/busybox'));
  chmodSync(join(folder, 'rootfs/bin/busybox'), 0o755);
  for (const applet of applets) symlinkSync('busybox', join(folder, 'rootfs/bin', applet));
  const command: RuntimeCommand = {
    handler: program,
    path: `/usr/bin/${program}`,
    root: join(folder, 'state'),
    systemdCgroup: false,
    // As the daemon does: a crun that is killed leaves a file there.
    env: { _LIBCONTAINER_STATEDIR: folder, ...runtimeEnvironment([], process.env) },
    cpuset: '',
    mayBeSealed: true,
  };
  const monitor: MonitorSettings = {
    path: '/usr/bin/conmon',
    exitsDir: join(folder, 'exits'),
    attachSocketDir: join(folder, 'sockets'),
    logLevel: 'info',
    logSizeMax: -1,
    logToJournald: false,
    noPivot: false,
    noSyncLog: false,
  };
  const created: string[] = [];
  const features = await detectFeatures(command.path, log);
  const onCreated = (_: string, dir: string) => created.push(dir);
  const runtime = createOciRuntime({ command, monitor, features, processesOf, onCreated });
  const ids: string[] = [];
  const call = (signal?: AbortSignal) =>
    new Call({ name: 'test', id: 'test', log, ...(signal === undefined ? {} : { signal }) });
  return {
    folder,
    command,
    monitor,
    runtime,
    created,
    call,
    bundle(args, change) {
      const id = newId();
      ids.push(id);
      return writeBundle(folder, id, args, features.ociVersion, change);
    },
    async [Symbol.asyncDispose]() {
      for (const id of ids) {
        await runtime.delete(call(), id);
        removeCgroups(id);
      }
      rmSync(folder, { recursive: true });
    },
  };
}

/** A runtime that was killed while it created a container knows nothing of the cgroups it has made. */
function removeCgroups(id: string): void {
  const root = '/sys/fs/cgroup';
  for (const hierarchy of readdirSync(root)) {
    try {
      rmdirSync(join(root, hierarchy, cgroupName(id)));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }
}

/** Pids of a test's container. */
export function processesOf(id: string): number[] {
  const text = readFileSync(`/sys/fs/cgroup/pids/${cgroupName(id)}/cgroup.procs`, 'latin1');
  return text.split('\n').filter(Boolean).map(Number);
}

export function cgroupName(id: string): string {
  return `crio-ts-test-${id.slice(0, 12)}`;
}

function writeBundle(
  folder: string,
  id: string,
  args: readonly string[],
  ociVersion: string,
  change?: (spec: Spec) => void,
): CreateOptions {
  const [bundle, persistDir] = [join(folder, id, 'bundle'), join(folder, id, 'persist')];
  for (const path of [bundle, persistDir]) mkdirSync(path, { recursive: true });
  const spec = baseSpec(folder, id, args, ociVersion);
  change?.(spec);
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
  return {
    id,
    name: `k8s_${id.slice(0, 5)}`,
    bundle,
    persistDir,
    logPath: join(folder, 'logs', `${id}.log`),
    terminal: spec.process?.terminal ?? false,
    stdin: false,
    stdinOnce: false,
    cgroupParent: '',
    timeoutMs: 20_000,
  };
}

function baseSpec(folder: string, id: string, args: readonly string[], ociVersion: string): Spec {
  return {
    ociVersion,
    process: { user: { uid: 0, gid: 0 }, args: [...args], env: ['PATH=/bin'], cwd: '/' },
    root: { path: join(folder, 'rootfs') },
    hostname: 'test',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: [] },
      { destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: [] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
      { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['newinstance', 'ptmxmode=0666'] },
    ],
    linux: {
      cgroupsPath: `/${cgroupName(id)}`,
      namespaces: [{ type: 'pid' }, { type: 'mount' }, { type: 'ipc' }, { type: 'uts' }, { type: 'network' }],
    },
  };
}
