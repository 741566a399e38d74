import { closeSync, readFileSync, rmSync } from 'node:fs';
import { pid as ownPid } from 'node:process';
import type { Call } from '../base/call.ts';
import { CrioError, hasCode } from '../base/errors.ts';
import { memfdCreate, readDescriptor } from '../sys/descriptor.ts';
import { createDetachedTmpfs } from '../sys/mount.ts';
import { boundedTake, collectPipe } from '../sys/pipe-reader.ts';
import { expectOrphan } from '../sys/reaper.ts';
import type { ExpectedOrphan } from '../sys/reaper.ts';
import { spawn } from '../sys/spawn.ts';
import type { ChildHandle, ExitStatus } from '../sys/spawn.ts';
import { exitText, globalArgs, pinned } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import { killExec } from './kill-exec.ts';
import type { ExecSyncOptions, ExecSyncResult } from './runtime.ts';
import { writeExactIntegers } from './spec/exact-integer.ts';

const maxLogBytes = 65536;
const signalBase = 128;

/**
 * Runs a command in a container: one process of the runtime, no file on a disk.
 *
 * The runtime starts the command detached and ends; the command, left behind, becomes the daemon's own child (it is a
 * child subreaper), which so learns its exit code itself. Then an exit status of the runtime other than 0 can only mean
 * that the command did not start, no runtime stays around, and a background process that keeps the output open delays
 * nothing (runc in the foreground would wait for it).
 * Throws when the command cannot be started, with CRI-O's text.
 */
export async function execSync(call: Call, command: RuntimeCommand, options: ExecSyncOptions): Promise<ExecSyncResult> {
  call.throwIfAborted();
  using files = new ExecFiles(options);
  using orphan = expectOrphan();
  const child = start(command, options, files);
  const take = boundedTake(options.maxOutputBytes);
  const outputs = [1, 2].map((index) => collectPipe(child, index, take));
  const limit = new TimeLimit(call, options.timeoutMs);
  let exitCode: number | undefined;
  try {
    exitCode = await waitForEnd(call, child, orphan, files, limit);
  } finally {
    limit.end();
    child.close();
  }
  const [stdout, stderr] = outputs.map((output) => output?.drain() ?? Buffer.alloc(0)) as [Buffer, Buffer]; // of two
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
  return spawn({ ...pinned(command, command.path, args), env: command.env, stdio: ['null', 'pipe', 'pipe'] });
}

/** The command's exit code; undefined when it did not start. */
async function waitForEnd(
  call: Call,
  runtime: ChildHandle,
  orphan: ExpectedOrphan,
  files: ExecFiles,
  limit: TimeLimit,
): Promise<number | undefined> {
  const started: { pid?: number } = {};
  let killing: Promise<void> | undefined;
  limit.onOver(() => {
    killing = killExec(runtime, started.pid).catch((error: unknown) =>
      call.log.error(`kill exec ${runtime.pid}`, error),
    );
  });
  const { code } = await runtime.exited;
  const pid = code === 0 ? files.readPid() : undefined;
  if (pid === undefined) {
    await killing;
    return undefined;
  }
  started.pid = pid;
  const process = orphan.claim(pid);
  // The time was over while the runtime was about to end: what it has started meanwhile is still there.
  if (killing !== undefined) await killExec(runtime, pid);
  const status = await process.exited;
  await killing;
  if (status.code !== undefined) return status.code;
  if (status.signal !== undefined) return signalBase + status.signal;
  throw new CrioError('internal', `wait for exec ${pid}: somebody else took its exit status`);
}

function notStarted(status: ExitStatus, files: ExecFiles, stdout: Buffer, stderr: Buffer): CrioError {
  const text = lastError(files.readLog()) ?? exitText({ ...status, timedOut: false });
  return new CrioError('unknown', `command error: ${text}, stdout: ${stdout}, stderr: ${stderr}, exit code -1`);
}

/** Calls back once when the time is over or the caller has gone. */
class TimeLimit {
  readonly #call: Call;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #onAbort = () => this.#giveUp();
  #isOver = false;
  #onOver: (() => void) | undefined;
  timedOut = false;

  constructor(call: Call, timeoutMs: number) {
    this.#call = call;
    call.signal.addEventListener('abort', this.#onAbort, { once: true });
    if (timeoutMs <= 0) return;
    this.#timer = setTimeout(() => {
      this.timedOut = true;
      this.#giveUp();
    }, timeoutMs);
  }

  onOver(callback: () => void): void {
    this.#onOver = callback;
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#call.signal.removeEventListener('abort', this.#onAbort);
  }

  #giveUp(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onOver?.();
  }
}

/** A tmpfs that only this process knows, for the runtimes' pid files. */
let pidFolder: number | undefined;
const pidFolderBytes = 1 << 20;
let pidFileCount = 0;

/**
 * What an exec exchanges with the runtime, all in memory. The runtime opens it through /proc/<daemon>/fd instead of
 * inheriting descriptors, which could reach the container (CVE-2024-21626).
 */
class ExecFiles implements Disposable {
  readonly #process: number;
  readonly #log: number;
  readonly pidPath: string;

  constructor(options: ExecSyncOptions) {
    // Without a terminal even if the container has one: both outputs stay apart and unchanged.
    this.#process = memfdCreate('process', JSON.stringify({ ...options.process, terminal: false }, writeExactIntegers));
    this.#log = memfdCreate('log');
    pidFolder ??= createDetachedTmpfs(pidFolderBytes);
    this.pidPath = `${pathOf(pidFolder)}/exec-${++pidFileCount}`;
  }

  get processPath(): string {
    return pathOf(this.#process);
  }

  get logPath(): string {
    return pathOf(this.#log);
  }

  readPid(): number | undefined {
    try {
      const pid = Number(readFileSync(this.pidPath, 'latin1'));
      return Number.isInteger(pid) && pid > 1 ? pid : undefined;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  readLog(): string {
    return readDescriptor(this.#log, maxLogBytes).toString();
  }

  [Symbol.dispose](): void {
    closeSync(this.#process);
    closeSync(this.#log);
    rmSync(this.pidPath, { force: true });
  }
}

function pathOf(fd: number): string {
  return `/proc/${ownPid}/fd/${fd}`;
}

/** The runtime's log holds one JSON object per line; the last one of level error is why it failed. */
export function lastError(log: string): string | undefined {
  for (const line of log.split('\n').toReversed()) {
    const entry = parseLogLine(line);
    if (entry !== undefined && (entry.level === 'error' || entry.level === 'fatal')) return entry.msg.trimEnd();
  }
  return undefined;
}

function parseLogLine(line: string): { level: string; msg: string } | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== 'object' || value === null) return undefined;
    const { level, msg } = value as { level?: unknown; msg?: unknown }; // an object; both are checked
    return typeof level === 'string' && typeof msg === 'string' ? { level, msg } : undefined;
  } catch {
    return undefined;
  }
}
