import type { Call } from '../base/call.ts';
import { longestTimerMs } from '../base/clock.ts';
import { CrioError, messageOf } from '../base/errors.ts';
import { boundedTake, collectPipe } from '../sys/pipe-reader.ts';
import { expectOrphan } from '../sys/reaper.ts';
import type { ExpectedOrphan } from '../sys/reaper.ts';
import type { ChildHandle, ExitStatus } from '../sys/spawn.ts';
import { exitText, globalArgs } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import { withAffinity } from './exec-affinity.ts';
import { ExecFiles, exitCodeOf, startError, startedPid } from './exec-files.ts';
import { turnToStart } from './exec-turns.ts';
import { endStart, killCommand } from './kill-exec.ts';
import type { ExecSyncOptions, ExecSyncResult } from './runtime.ts';
import { spawnExec } from './sealed-program.ts';

/**
 * Most commands (probes) end a moment after their runtime and print less than a pipe holds: their output is read once, at
 * the end, and no poll is made for it. Others are read from here on.
 */
const shortCommandMs = 3;
const readingAfterMs = 100;

/** How execs of a handler are started and ended. */
export interface ExecPlace {
  readonly command: RuntimeCommand;
  /** Pids of all processes of a container now. */
  readonly processesOf: (id: string) => readonly number[];
}

/**
 * Runs a command in a container: one process of the runtime, no file on a disk.
 *
 * The runtime starts the command detached and ends; the command, left behind, becomes the daemon's own child (it is a
 * child subreaper), which so learns its exit code itself. Then an exit status of the runtime other than 0 can only mean
 * that the command did not start, no runtime stays around, and a background process that keeps the output open delays
 * nothing (runc in the foreground would wait for it).
 * Once the time is over, the answer does not wait long for processes that cannot be killed (in a frozen cgroup, say).
 * Throws when the command cannot be started, with CRI-O's text.
 */
export async function execSync(call: Call, place: ExecPlace, options: ExecSyncOptions): Promise<ExecSyncResult> {
  call.throwIfAborted();
  using turn = await turnToStart(call.signal, options.id);
  using limit = new TimeLimit(call, options.timeoutMs);
  const work = runToEnd(call, place, options, limit, turn);
  const result = await Promise.race([work, limit.patienceOver]);
  if (result !== undefined) return result;
  work.catch((error: unknown) => call.log.debug(() => `exec in container ${options.id}: ${messageOf(error)}`));
  call.log.warn(`A command in container ${options.id} cannot be killed`);
  call.throwIfAborted();
  return { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0), exitCode: -1, timedOut: true };
}

async function runToEnd(
  call: Call,
  { command, processesOf }: ExecPlace,
  options: ExecSyncOptions,
  limit: TimeLimit,
  turn: Disposable,
): Promise<ExecSyncResult> {
  // Without a terminal even if the container has one: both outputs stay apart and unchanged.
  using files = new ExecFiles(
    withAffinity({ ...options.process, terminal: false }, command.execCpuAffinity, options.cpus),
  );
  using orphan = expectOrphan();
  const child = start(command, options, files);
  const take = boundedTake(options.maxOutputBytes);
  const outputs = [1, 2].map((index) => collectPipe(child, index, take));
  const drain = () => outputs.map((output) => output?.drain() ?? Buffer.alloc(0));
  void limit.patienceOver.then(drain);
  const startReading = () => outputs.forEach((output) => output?.start());
  // A runtime that prints more than a pipe holds must not wait for ever.
  const reading = setTimeout(startReading, readingAfterMs);
  let exitCode: number | undefined;
  let collected: Buffer[] = [];
  try {
    const processes = () => processesOf(options.id);
    exitCode = await waitForEnd(call, { runtime: child, processes, orphan, files, turn, limit, startReading });
  } finally {
    clearTimeout(reading);
    limit[Symbol.dispose]();
    child.close();
    collected = drain();
  }
  const [stdout, stderr] = collected as [Buffer, Buffer]; // of two
  call.throwIfAborted();
  if (limit.timedOut) return { stdout, stderr, exitCode: -1, timedOut: true };
  if (exitCode === undefined) throw notStarted(await child.exited, files, stdout, stderr);
  return { stdout, stderr, exitCode, timedOut: false };
}

function start(command: RuntimeCommand, options: ExecSyncOptions, files: ExecFiles): ChildHandle {
  const args = [
    ...globalArgs(command, { withCgroupManager: false }),
    ...['--log', files.logPath, '--log-format', 'json'],
    ...['exec', '--detach', '--pid-file', files.pidPath, '--process', files.processPath, options.id],
  ];
  return spawnExec(command, args, ['null', 'pipe', 'pipe']);
}

interface RunningExec {
  readonly runtime: ChildHandle;
  readonly processes: () => readonly number[];
  readonly orphan: ExpectedOrphan;
  readonly files: ExecFiles;
  readonly turn: Disposable;
  readonly limit: TimeLimit;
  readonly startReading: () => void;
}

/** The command's exit code; undefined when it did not start. */
async function waitForEnd(call: Call, exec: RunningExec): Promise<number | undefined> {
  const { runtime, processes, orphan, files, turn, limit, startReading } = exec;
  let kill = () => endStart(runtime, files.pidPath);
  let killing: Promise<void> | undefined;
  limit.onOver(() => {
    killing = kill().catch((error: unknown) => call.log.error(`kill exec ${runtime.pid}`, error));
  });
  const pid = startedPid(await runtime.exited, files);
  if (pid === undefined) return undefined;
  const command = orphan.claim(pid);
  kill = () => killCommand(command, processes);
  // Nothing of these is needed while the command runs.
  files[Symbol.dispose]();
  turn[Symbol.dispose]();
  const reading = setTimeout(startReading, shortCommandMs);
  // The time was over while the runtime was about to end: what it has started meanwhile is still there.
  if (killing !== undefined) {
    await killing;
    await kill();
  }
  const status = await command.exited;
  limit[Symbol.dispose]();
  clearTimeout(reading);
  await killing;
  return exitCodeOf(pid, status);
}

function notStarted(status: ExitStatus, files: ExecFiles, stdout: Buffer, stderr: Buffer): CrioError {
  const text = startError(files.readLog(), stderr.toString()) ?? exitText({ ...status, timedOut: false });
  return new CrioError('unknown', `command error: ${text}, stdout: ${stdout}, stderr: ${stderr}, exit code -1`);
}

/** How long after its time an answer may wait for the processes to be gone: a SIGKILL takes a moment on a busy node. */
const patienceMs = 3000;

/** Calls back once when the time is over or the caller has gone. */
export class TimeLimit implements Disposable {
  /** Resolves when what must end by then has had time enough to be killed; only if the limit is not disposed of before. */
  readonly patienceOver: Promise<undefined>;
  readonly #call: Call;
  readonly #onAbort = () => this.#giveUp();
  readonly #endPatience: () => void;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;
  #onOver: (() => void) | undefined;
  timedOut = false;

  constructor(call: Call, timeoutMs: number) {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.patienceOver = promise;
    this.#endPatience = () => resolve(undefined);
    this.#call = call;
    call.signal.addEventListener('abort', this.#onAbort, { once: true });
    if (timeoutMs <= 0) return;
    this.#timer = setTimeout(
      () => {
        this.timedOut = true;
        this.#giveUp();
      },
      Math.min(timeoutMs, longestTimerMs),
    );
  }

  onOver(callback: () => void): void {
    this.#onOver = callback;
  }

  /** From here on nothing happens any more. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#call.signal.removeEventListener('abort', this.#onAbort);
  }

  #giveUp(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#endPatience, patienceMs);
    this.#onOver?.();
  }
}
