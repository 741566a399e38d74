import { spawn } from 'node:child_process';
import { run } from '../fixtures/process.ts';
import { write } from '../run/node-files.ts';

/** The real podman on the daemon's own store, without what a restricted host does not give it. */

const store = [
  ['--root', '/var/lib/containers/storage'],
  ['--runroot', '/run/containers/storage'],
  ['--cgroup-manager', 'cgroupfs'],
  ['--events-backend', 'none'],
  ['--log-level', 'error'],
].flat();

/** Locks of podman would stay in /dev/shm for good. */
export function preparePodman(): void {
  write('/etc/containers/containers.conf', '[engine]\nlock_type = "file"\n');
}

export const podmanMajor = Number(/podman version (\d+)\./.exec(run('podman', ['--version']))?.[1] ?? 0);

export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs podman to its end; a failure is an answer. */
export function podman(...args: readonly string[]): Promise<Finished> {
  return runAsync('podman', [...store, ...args]);
}

export function runAsync(file: string, args: readonly string[]): Promise<Finished> {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text.stdout += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (text.stderr += part));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      const end = signal === null ? '' : `ended by ${signal}\n`;
      resolve({ code: code ?? 128, stdout: text.stdout, stderr: `${text.stderr}${end}` });
    });
  });
}

/** Throws with podman's own words. */
export async function podmanOk(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await podman(...args);
  if (code !== 0) throw new Error(`podman ${args.join(' ')}: exit code ${code}: ${stderr}${stdout}`);
  return stdout;
}
