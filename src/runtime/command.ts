import { constants } from 'node:os';
import { CrioError } from '../base/errors.ts';
import { run } from '../sys/run.ts';
import type { RunResult } from '../sys/run.ts';

/** How one handler's runtime is called. */
export interface RuntimeCommand {
  readonly handler: string;
  /** Absolute path of the OCI runtime. */
  readonly path: string;
  /** Directory of the runtime's own state. */
  readonly root: string;
  readonly systemdCgroup: boolean;
  /** The whole environment of the runtime and the monitor. */
  readonly env: Readonly<Record<string, string>>;
  /** CPUs that all programs are bound to with taskset(1); empty: none. */
  readonly cpuset: string;
}

/** The reduced environment that the runtime, the monitor and hooks get (oci-runtime sheet, section 1). */
export function runtimeEnvironment(
  monitorEnv: readonly string[],
  own: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const entry of monitorEnv) {
    const at = entry.indexOf('=');
    if (at > 0) env[entry.slice(0, at)] = entry.slice(at + 1);
  }
  env['CRI_O_EXTERNAL'] = '1';
  for (const name of ['XDG_RUNTIME_DIR', 'PATH']) {
    const value = own[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}

/** Program and arguments, bound to the configured CPUs. */
export function pinned(
  command: RuntimeCommand,
  file: string,
  args: readonly string[],
): { file: string; args: string[] } {
  if (command.cpuset === '') return { file, args: [...args] };
  return { file: 'taskset', args: ['--cpu-list', command.cpuset, file, ...args] };
}

/** Global arguments of direct calls; `update` and `exec` never get `--systemd-cgroup`. */
export function globalArgs(command: RuntimeCommand, options: { withCgroupManager: boolean }): string[] {
  const args = ['--root', command.root];
  if (options.withCgroupManager && command.systemdCgroup) args.push('--systemd-cgroup');
  return args;
}

/** Runs one verb to its end and gives its output; another exit status than 0 is an error with the runtime's text. */
export async function callRuntime(
  command: RuntimeCommand,
  args: readonly string[],
  timeoutMs?: number,
): Promise<string> {
  const allArgs = [...globalArgs(command, { withCgroupManager: true }), ...args];
  const result = await run({ ...pinned(command, command.path, allArgs), env: command.env, timeoutMs });
  if (result.code !== 0) throw failure(command.path, allArgs, result);
  return result.stdout.toString();
}

/** The error CRI-O gives for a failed direct call; the kind `not-found` means that the process is gone. */
export function failure(path: string, args: readonly string[], result: RunResult): CrioError {
  const stderr = result.stderr.toString().trim();
  const output = [stderr, result.stdout.toString().trim()].filter((text) => text !== '').join(' ');
  const isGone = isProcessGone(stderr);
  const status = isGone ? 'container process not found' : exitText(result);
  return new CrioError(
    isGone ? 'not-found' : 'unknown',
    `\`${path} ${args.join(' ')}\` failed: ${output}${output === '' ? '' : ': '}${status}`,
  );
}

/**
 * The texts by which a runtime says that the container's process has ended. Runtimes differ in case ("No such process"
 * of crun) and words.
 */
export function isProcessGone(stderr: string): boolean {
  return /no such process|(?:container|process) not running|invalid process|is not running|does not exist/i.test(
    stderr,
  );
}

/** As Go's os/exec words it. */
export function exitText(result: Pick<RunResult, 'code' | 'signal' | 'timedOut'>): string {
  if (result.timedOut) return 'timed out';
  if (result.code !== undefined) return `exit status ${result.code}`;
  return `signal: ${result.signal === undefined ? 'unknown' : (signalWords.get(result.signal) ?? result.signal)}`;
}

const { SIGABRT, SIGBUS, SIGHUP, SIGINT, SIGKILL, SIGSEGV, SIGTERM } = constants.signals;
const signalWords: ReadonlyMap<number, string> = new Map([
  [SIGABRT, 'aborted'],
  [SIGBUS, 'bus error'],
  [SIGHUP, 'hangup'],
  [SIGINT, 'interrupt'],
  [SIGKILL, 'killed'],
  [SIGSEGV, 'segmentation fault'],
  [SIGTERM, 'terminated'],
]);
