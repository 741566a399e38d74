import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { run } from '../fixtures/process.ts';

/** Places that the daemon and its helpers write to; each is a private folder inside the stage. */
const privateFolders = [
  '/var/lib/containers',
  '/var/lib/crio',
  '/var/lib/cni',
  '/var/log/crio',
  '/etc/crio',
  '/etc/cni/net.d',
  '/etc/containers',
  '/srv',
];

export const repository = join(import.meta.dirname, '../..');

export interface StageResult {
  readonly code: number;
  /** `PID command line` of each process that outlived the command. */
  readonly leftovers: readonly string[];
}

/**
 * Runs a command in its own mount (made rshared), network, IPC and UTS namespaces, below a subreaper of its own, with
 * private state folders. Everything is gone afterwards, whatever the command did, except cgroups.
 */
export async function runInStage(command: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<StageResult> {
  const folder = mkdtempSync('/var/tmp/crio-ts-stage-');
  const made = makeMountpoints([...privateFolders, ...(needsHugetlb() ? ['/sys/fs/cgroup/hugetlb'] : [])]);
  try {
    writeFileSync(join(folder, 'mountpoints'), privateFolders.map((path) => `${path}\n`).join(''));
    mkdirSync(join(folder, 'tmp'));
    if (existsSync('/etc/resolv.conf')) cpSync('/etc/resolv.conf', join(folder, 'resolv.conf'), { dereference: true });
    const leftovers = join(folder, 'leftovers');
    const args = [
      '--mount',
      '--net',
      '--ipc',
      '--uts',
      '--propagation',
      'private',
      'sh',
      join(import.meta.dirname, 'stage.sh'),
      folder,
      buildReaper(),
      leftovers,
      ...command,
    ];
    const child = spawn('unshare', args, {
      stdio: 'inherit',
      env: { ...process.env, ...env, CRIO_TS_STAGE: folder, TMPDIR: join(folder, 'tmp') },
    });
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (status, signal) => resolve(status ?? (signal === null ? 1 : 128)));
    });
    return {
      code,
      leftovers: existsSync(leftovers) ? readFileSync(leftovers, 'utf8').split('\n').filter(Boolean) : [],
    };
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    for (const path of made.toReversed()) rmdirSync(path);
  }
}

/** Name of the cgroup below which all pods of this stage are, at the top of every hierarchy. */
export function stageCgroup(): string {
  return basename(stageFolder());
}

/** The folder of the running stage; throws outside one, so that a test never touches the state of the machine. */
export function stageFolder(): string {
  const folder = process.env['CRIO_TS_STAGE'];
  if (folder === undefined || !existsSync(join(folder, 'mountpoints')))
    throw new Error('find the test environment: start this through "make test" or test/run/main.ts');
  return folder;
}

/** Makes the mount points that the machine lacks, for the time of a stage; returns them, to be removed in reverse order. */
export function makeMountpoints(paths: readonly string[]): string[] {
  const made: string[] = [];
  const make = (path: string): void => {
    if (existsSync(path)) return;
    make(dirname(path));
    mkdirSync(path);
    made.push(path);
  };
  for (const path of paths) make(path);
  return made;
}

/** A hybrid host: v1 hierarchies on a tmpfs, and a kernel that has hugetlb without one. */
export function needsHugetlb(): boolean {
  const root = '/sys/fs/cgroup';
  if (!existsSync(root) || existsSync(join(root, 'cgroup.controllers')) || statSync(root).ino === 0) return false;
  return /^hugetlb\s/m.test(readFileSync('/proc/cgroups', 'utf8')) && readdirSync(root).length > 0;
}

/** The subreaper program, compiled when its source is newer. */
export function buildReaper(): string {
  const source = join(import.meta.dirname, 'reaper.c');
  const output = join(repository, 'build/test/reaper');
  if (existsSync(output) && statSync(output).mtimeMs >= statSync(source).mtimeMs) return output;
  mkdirSync(dirname(output), { recursive: true });
  run('gcc', ['-O2', '-Wall', '-Wextra', '-o', output, source]);
  return output;
}
