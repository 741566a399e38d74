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
  /** `first`: commands start on the first CPU of a container that is bound to some. */
  readonly execCpuAffinity?: string;
  /** `exec` may run from a sealed copy of the program, see sealed-program.ts. */
  readonly mayBeSealed?: boolean;
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

export type Verb = 'start' | 'kill' | 'delete' | 'state' | 'pause' | 'resume' | 'update';

/** One direct call about one container. */
export interface RuntimeCall {
  readonly verb: Verb;
  readonly id: string;
  readonly options?: readonly string[];
  /** After the id. */
  readonly operands?: readonly string[];
  /** The caller holds the container's lock: a runtime that hangs is killed after this time. */
  readonly timeoutMs: number;
}

/** Runs one verb to its end and gives its output; another exit status than 0 is an error with the runtime's text. */
export async function callRuntime(command: RuntimeCommand, call: RuntimeCall): Promise<string> {
  const { verb, id, options = [], operands = [], timeoutMs } = call;
  const args = [...globalArgs(command, { withCgroupManager: true }), verb, ...options, id, ...operands];
  const result = await run({ ...pinned(command, command.path, args), env: command.env, timeoutMs });
  if (result.code === 0) return result.stdout.toString();
  if (result.timedOut) throw timeout(command, call);
  throw failure(command.path, args, { verb, id, result });
}

export function timeout(
  { path }: RuntimeCommand,
  { verb, id, timeoutMs }: Pick<RuntimeCall, 'verb' | 'id' | 'timeoutMs'>,
): CrioError {
  return new CrioError('deadline', `${verb} container "${id}": ${path} did not end within ${timeoutMs / 1000} s`);
}

/** The error CRI-O gives for a failed direct call; the kind `not-found` means that the container or its process is gone. */
export function failure(
  path: string,
  args: readonly string[],
  { verb, id, result }: { verb: Verb; id: string; result: RunResult },
): CrioError {
  const stderr = result.stderr.toString().trim();
  const output = [stderr, result.stdout.toString().trim()].filter((text) => text !== '').join(' ');
  const isGone = isGoneBy(verb, id, stderr);
  const status = isGone ? 'container process not found' : exitText(result);
  return new CrioError(
    isGone ? 'not-found' : 'unknown',
    `\`${path} ${args.join(' ')}\` failed: ${output}${output === '' ? '' : ': '}${status}`,
  );
}

/**
 * Whether the runtime says that there is nothing left for this verb to do, in the words of runc and crun (oci-runtime
 * sheet, section 3). Only the last line is theirs, hooks write before it. A cgroup or a hook that "does not exist" does
 * not mean the container; a start that finds none has failed; and a deletion is over only when the container is unknown.
 */
export function isGoneBy(verb: Verb, id: string, stderr: string): boolean {
  if (verb === 'start' || verb === 'state' || verb === 'update') return false;
  const text = lastMessage(stderr);
  if (isUnknownContainer(text, id)) return true;
  return verb !== 'delete' && isEndedProcess(text, id);
}

/** runc's message stands inside `time="..." level=error msg="..."`, on a terminal after `ERRO[0000]`. */
function lastMessage(stderr: string): string {
  const line = stderr.trim().split('\n').at(-1)?.trim() ?? '';
  return /\bmsg="(.*)"$/.exec(line)?.[1] ?? line.replace(/^ERRO\[\d+\] /, '');
}

function isUnknownContainer(text: string, id: string): boolean {
  if (text === 'container does not exist' || text.startsWith(`container \`${id}\` does not exist`)) return true;
  const file = /^(?:error opening file `|cannot open directory ['`])([^'`]*)['`]: No such file or directory$/.exec(
    text,
  )?.[1];
  return file !== undefined && (file.endsWith(`/${id}/status`) || file.endsWith(`/${id}`));
}

function isEndedProcess(text: string, id: string): boolean {
  if (text === 'container not running' || text === 'process not running') return true;
  return (
    /(?:^|: )no such process$/i.test(text) || /^(?:the )?container `([^`]*)` is not running$/.exec(text)?.[1] === id
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
