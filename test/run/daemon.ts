import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, openSync, closeSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type CriClient } from '../client/client.ts';
import { write } from './node-files.ts';
import { repository, stageFolder } from './stage.ts';

/** The real daemon with its default paths, which are private inside a stage. */
export interface Daemon extends AsyncDisposable {
  readonly client: CriClient;
  readonly socket: string;
  /** File with all that the daemon has printed. */
  readonly logFile: string;
  pid(): number;
  log(): string;
  /** Ends the daemon with the signal, waits for its end, and starts it again. `between` runs while it is down. */
  restart(signal: NodeJS.Signals, between?: () => Promise<void> | void): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface DaemonOptions {
  /** TOML in addition to (after) that of the test environment. */
  readonly config?: string;
  readonly defaultRuntime?: 'crun' | 'runc';
  /** `runtime_root` of the handler runc; default: /run/runc. */
  readonly runcRoot?: string;
  /** Default: CRI-O's own path. */
  readonly socket?: string;
  /** Default: debug. */
  readonly logLevel?: string;
  readonly args?: readonly string[];
  /** Program and arguments that start the daemon in a world of their own; its process must become the daemon's. */
  readonly wrapper?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

const defaultSocket = '/var/run/crio/crio.sock';
const startTimeoutMs = 20_000;
let started = 0;

export async function startDaemon(options: DaemonOptions = {}): Promise<Daemon> {
  const folder = stageFolder();
  const socket = options.socket ?? defaultSocket;
  const logFile = join(process.env['CRIO_TS_LOGS'] ?? folder, `daemon-${process.pid}-${++started}.log`);
  mkdirSync(join(logFile, '..'), { recursive: true });
  writeFileSync(logFile, '');
  write('/etc/crio/crio.conf', testConfig(options));
  let child = launch(options, logFile);
  const client = connect(socket);
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
    const [, open] = /Ending although something is still open \(([^)]*)\)/.exec(readFileSync(logFile, 'utf8')) ?? [];
    if (open !== undefined) throw new Error(`stop the daemon: something stayed open: ${open}`);
  };
  await untilReady(client, child, logFile);
  return {
    client,
    socket,
    logFile,
    stop,
    pid: () => child.pid ?? -1,
    log: () => readFileSync(logFile, 'utf8'),
    restart: async (signal, between) => {
      await stop(signal);
      await between?.();
      child = launch(options, logFile);
      await untilReady(client, child, logFile);
    },
    [Symbol.asyncDispose]: async () => {
      client[Symbol.dispose]();
      await stop();
    },
  };
}

export const daemonFile = join(repository, 'bin/crio');

function launch(options: DaemonOptions, logFile: string): ChildProcess {
  const log = openSync(logFile, 'a');
  const [file = daemonFile, ...args] = [...(options.wrapper ?? []), daemonFile, ...(options.args ?? [])];
  const child = spawn(file, args, {
    stdio: ['ignore', log, log],
    env: { ...process.env, ...options.env },
  });
  closeSync(log);
  child.on('error', () => undefined); // seen by untilReady as an exit
  return child;
}

/** Waits for the first answered call, which is later than the socket's appearance. */
async function untilReady(client: CriClient, child: ChildProcess, logFile: string): Promise<void> {
  const end = Date.now() + startTimeoutMs;
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) break;
    try {
      await client.runtime.version({}, { timeoutMs: 1000 });
      return;
    } catch (error) {
      if (Date.now() > end) throw new Error(`start the daemon: no answer: ${tail(logFile)}`, { cause: error });
      await sleep(20);
    }
  }
  throw new Error(
    `start the daemon: it ended with ${child.exitCode ?? child.signalCode ?? 'no start'}: ${tail(logFile)}`,
  );
}

function tail(file: string): string {
  return readFileSync(file, 'utf8').split('\n').slice(-15).join('\n');
}

/** What differs from the built-in defaults: cgroupfs, Debian's plugin folder, both runtimes. */
export function testConfig({
  config = '',
  defaultRuntime = 'crun',
  logLevel = 'debug',
  runcRoot = '/run/runc',
  socket = defaultSocket,
}: DaemonOptions): string {
  return `
[crio.api]
listen = "${socket}"
[crio.runtime]
cgroup_manager = "cgroupfs"
default_runtime = "${defaultRuntime}"
log_level = "${logLevel}"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/bin/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/bin/conmon"
[crio.runtime.runtimes.runc]
runtime_path = "/usr/sbin/runc"
runtime_root = "${runcRoot}"
monitor_path = "/usr/bin/conmon"
[crio.network]
plugin_dirs = ["/usr/lib/cni"]
${config}`;
}
