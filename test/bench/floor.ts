import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../fixtures/process.ts';
import { repository } from '../run/stage.ts';

/** A container of the daemon's own, whose spec the hand-run containers copy. */
export interface Template {
  readonly bundle: string;
  readonly runtimePath: string;
  readonly runtimeRoot: string;
}

/** The C program that runs the external programs, and what it needs on disk. */
export interface Floor extends Disposable {
  /** CNI ADD, conmon with runtime create, runtime start: the times in ms. */
  up(gapMs?: number): Promise<{ add: number; create: number; start: number }>;
  /** The end of the container, runtime delete, CNI DEL. */
  down(gapMs?: number): Promise<{ stop: number; delete: number; del: number }>;
  /** `runtime exec` in a container of the given runtime root. */
  exec(containerId: string): Promise<number>;
}

const network = '/etc/cni/net.d/10-bridge.conflist';
let counter = 0;

/** Starts one floor program; several of them at once are the "shells" of the rate measurements. */
export function startFloor(template: Template, folder: string): Floor {
  const child = spawn(buildFloor(), { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting: ((line: string) => void)[] = [];
  createInterface(child.stdout).on('line', (line) => waiting.shift()?.(line));
  child.once('error', (error) => waiting.splice(0).forEach((answer) => answer(`0 ${error.message}`)));
  const command = (words: readonly string[]): Promise<number> =>
    new Promise((resolve, reject) => {
      waiting.push((line) => {
        const [time = '', status = ''] = line.split(' ');
        if (status === '0') resolve(Number(time) / 1e6);
        else reject(new Error(`run "${words.slice(0, 30).join(' ')}" by hand: status ${status}`));
      });
      child.stdin.write(`${words.join('\t')}\n`);
    });
  const plugin = pluginFile(folder);
  const execFile = processFile(template, folder);
  let current = '';
  const cni = (verb: string): Promise<number> =>
    command([
      'run',
      plugin.file,
      `CNI_COMMAND=${verb}`,
      `CNI_CONTAINERID=${current}`,
      `CNI_NETNS=/run/netns/${current}`,
      'CNI_IFNAME=eth0',
      'CNI_PATH=/usr/lib/cni',
      plugin.program,
    ]);
  return {
    up: async (gapMs = 0) => {
      current = `floor-${process.pid}-${++counter}`;
      const bundle = join(folder, current);
      writeBundle(template, bundle, current);
      await command(['netns', `/run/netns/${current}`]);
      const add = await cni('ADD');
      await sleep(gapMs);
      const create = await command(['create', ...conmonCommand(template, bundle, current)]);
      await sleep(gapMs);
      const start = await command([
        'run',
        '/dev/null',
        template.runtimePath,
        `--root=${template.runtimeRoot}`,
        'start',
        current,
      ]);
      return { add, create, start };
    },
    down: async (gapMs = 0) => {
      const bundle = join(folder, current);
      const stop = await command(['stop', join(bundle, 'exits', current)]);
      await sleep(gapMs);
      const remove = await command([
        'run',
        '/dev/null',
        template.runtimePath,
        `--root=${template.runtimeRoot}`,
        'delete',
        '--force',
        current,
      ]);
      await sleep(gapMs);
      const del = await cni('DEL');
      await command(['unpin', `/run/netns/${current}`]);
      rmSync(bundle, { recursive: true });
      return { stop, delete: remove, del };
    },
    exec: (containerId) =>
      command([
        'run',
        '/dev/null',
        template.runtimePath,
        `--root=${template.runtimeRoot}`,
        'exec',
        '--process',
        execFile,
        containerId,
      ]),
    [Symbol.dispose]: () => void child.stdin.end(),
  };
}

function buildFloor(): string {
  const source = join(import.meta.dirname, 'floor.c');
  const output = join(repository, 'build/test/floor');
  if (existsSync(output) && statSync(output).mtimeMs >= statSync(source).mtimeMs) return output;
  mkdirSync(dirname(output), { recursive: true });
  run('gcc', ['-O2', '-Wall', '-Wextra', '-o', output, source]);
  return output;
}

/** What libcni gives a plugin on its standard input. */
function pluginFile(folder: string): { file: string; program: string } {
  // Written by the test environment.
  const list = JSON.parse(readFileSync(network, 'utf8')) as {
    name: string;
    cniVersion: string;
    plugins: [{ type: string }];
  };
  const file = join(folder, 'plugin.json');
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, JSON.stringify({ ...list.plugins[0], name: list.name, cniVersion: list.cniVersion }));
  return { file, program: `/usr/lib/cni/${list.plugins[0].type}` };
}

/** The parts of a config.json that are changed here. */
interface Spec {
  process: { args: string[]; terminal?: boolean };
  root: { path: string };
  annotations?: Record<string, string>;
  linux: { cgroupsPath: string; namespaces: { type: string; path?: string }[] };
}

function readSpec(template: Template): Spec {
  return JSON.parse(readFileSync(join(template.bundle, 'config.json'), 'utf8')) as Spec; // the daemon's own
}

/** The template's spec with its own network namespace and cgroup, and without annotations that make crun faster. */
function writeBundle(template: Template, bundle: string, id: string): void {
  const spec = readSpec(template);
  const parent = dirname(spec.linux.cgroupsPath);
  spec.linux.cgroupsPath = join(parent, id);
  for (const namespace of spec.linux.namespaces) {
    if (namespace.type === 'network') namespace.path = `/run/netns/${id}`;
  }
  spec.annotations = Object.fromEntries(
    Object.entries(spec.annotations ?? {}).filter(([key]) => !key.startsWith('run.oci.')),
  );
  for (const name of ['', 'exits', 'persist', 'sockets']) mkdirSync(join(bundle, name), { recursive: true });
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
  mkdirSync('/run/netns', { recursive: true });
}

function processFile(template: Template, folder: string): string {
  const spec = readSpec(template);
  const file = join(folder, 'process.json');
  writeFileSync(file, JSON.stringify({ ...spec.process, args: ['true'], terminal: false }));
  return file;
}

/** conmon's command line as the daemon gives it. */
function conmonCommand({ runtimePath, runtimeRoot }: Template, bundle: string, id: string): string[] {
  const flags = [
    '-b',
    bundle,
    '-c',
    id,
    '--exit-dir',
    join(bundle, 'exits'),
    '-l',
    join(bundle, 'log'),
    '--log-level',
    'info',
    '-n',
    id,
  ];
  const files = [
    '-P',
    join(bundle, 'conmon-pidfile'),
    '-p',
    join(bundle, 'pidfile'),
    '--persist-dir',
    join(bundle, 'persist'),
  ];
  return [
    '/usr/bin/conmon',
    ...flags,
    ...files,
    '-r',
    runtimePath,
    '--runtime-arg',
    `--root=${runtimeRoot}`,
    '--socket-dir-path',
    join(bundle, 'sockets'),
    '--syslog',
    '-u',
    id,
  ];
}
