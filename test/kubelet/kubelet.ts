import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../fixtures/process.ts';
import { makeCgroup } from '../run/cgroups.ts';
import { write } from '../run/node-files.ts';
import { stageCgroup, stageFolder } from '../run/stage.ts';
import { get, nodeName } from './api.ts';

/** Folders of the kubelet that are private inside a stage; the machine must have them as mount points. */
export const kubeletFolders = ['/var/lib/kubelet', '/var/log/pods', '/var/log/containers'];
/** So much of a log makes the kubelet rotate it. */
const logMaxBytes = 20 * 1024;
export const podPidsLimit = 300;
/** Of a bridge without ports: a kubelet wants its node to have an address. */
const nodeAddress = '192.0.2.10';

/** A real kubelet that runs the static pods of a folder; it knows no API server. */
export interface Kubelet extends AsyncDisposable {
  readonly logFile: string;
  pid(): number;
  /** Ends it and starts it again; its pods run on. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** The kernel's settings that the kubelet wants; they are the whole machine's, so it gets to see files instead. */
const tunables: Readonly<Record<string, number>> = {
  'vm/overcommit_memory': 1,
  'vm/panic_on_oom': 0,
  'kernel/panic': 10,
  'kernel/panic_on_oops': 1,
  'kernel/keys/root_maxkeys': 1_000_000,
  'kernel/keys/root_maxbytes': 25_000_000,
};

/** All mounts of the rest stay shared with the stage, in both directions. */
const wrapper = `mount --make-rprivate /proc
for name in ${Object.keys(tunables).join(' ')}; do mount --bind "$0/$name" "/proc/sys/$name"; done
exec "$@"`;

const manifestFolder = '/srv/manifests';
const startTimeoutMs = 30_000;

/** Private folders, an address and a cgroup: what there has to be before the daemon and the kubelet start. */
export function prepareNode(): void {
  for (const path of kubeletFolders) {
    const folder = join(stageFolder(), 'root', path);
    mkdirSync(folder, { recursive: true });
    run('mount', ['--bind', folder, path]);
  }
  mkdirSync(manifestFolder, { recursive: true });
  for (const [name, value] of Object.entries(tunables)) write(join(stageFolder(), 'tunables', name), `${value}\n`);
  run('ip', ['link', 'add', 'node0', 'type', 'bridge']);
  run('ip', ['address', 'add', `${nodeAddress}/24`, 'dev', 'node0']);
  run('ip', ['link', 'set', 'node0', 'up']);
  makeCgroup(stageCgroup());
}

export function manifestFile(pod: string): string {
  return join(manifestFolder, `${pod}.json`);
}

export async function startKubelet(options: { program: string; socket: string }): Promise<Kubelet> {
  const logs = process.env['CRIO_TS_LOGS'] ?? stageFolder();
  const logFile = join(logs, `kubelet-${process.pid}.log`);
  mkdirSync(logs, { recursive: true });
  writeFileSync(logFile, '');
  const config = '/srv/kubelet.json';
  write('/srv/resolv.conf', 'nameserver 192.0.2.53\nsearch example.test\n');
  writeFileSync(config, JSON.stringify(kubeletConfig(options.socket), undefined, 2));
  const start = (): ChildProcess => launch(options.program, config, logFile);
  let child = start();
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await gone;
  };
  await untilReady(child, logFile);
  return {
    logFile,
    pid: () => child.pid ?? -1,
    stop,
    restart: async () => {
      await stop();
      child = start();
      await untilReady(child, logFile);
    },
    [Symbol.asyncDispose]: stop,
  };
}

function launch(program: string, config: string, logFile: string): ChildProcess {
  const log = openSync(logFile, 'a');
  const own = ['--hostname-override', nodeName, '--node-ip', nodeAddress, '--config', config, '--v=2'];
  const flags = ['--mount', '--propagation', 'unchanged', 'sh', '-euc', wrapper, join(stageFolder(), 'tunables')];
  const child = spawn('unshare', [...flags, program, ...own], { stdio: ['ignore', log, log] });
  closeSync(log);
  child.on('error', () => undefined); // seen by untilReady as an exit
  return child;
}

async function untilReady(child: ChildProcess, logFile: string): Promise<void> {
  const end = Date.now() + startTimeoutMs;
  while (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
    const answer = await get('/healthz').catch(() => '');
    if (answer === 'ok') return;
    if (Date.now() > end) throw new Error(`start the kubelet: no answer: ${tail(logFile)}`);
    await sleep(100);
  }
  throw new Error(
    `start the kubelet: it ended with ${child.exitCode ?? child.signalCode ?? 'no start'}: ${tail(logFile)}`,
  );
}

function tail(file: string): string {
  return readFileSync(file, 'utf8').split('\n').slice(-15).join('\n');
}

function kubeletConfig(socket: string): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: `unix://${socket}`,
    staticPodPath: manifestFolder,
    volumePluginDir: '/var/lib/kubelet/plugins/volume',
    resolvConf: '/srv/resolv.conf',
    address: '127.0.0.1',
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${stageCgroup()}`,
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    oomScoreAdj: 0,
    podPidsLimit,
    containerLogMaxSize: String(logMaxBytes),
    containerLogMaxFiles: 4,
    containerLogMonitorInterval: '3s',
    // Nothing of the machine's own load may evict a pod of the tests or take an image away.
    evictionHard: {
      'memory.available': '0%',
      'nodefs.available': '0%',
      'nodefs.inodesFree': '0%',
      'imagefs.available': '0%',
      'imagefs.inodesFree': '0%',
      'pid.available': '0%',
    },
    imageGCHighThresholdPercent: 100,
    volumeStatsAggPeriod: '5s',
    streamingConnectionIdleTimeout: '1m',
  };
}
