import { closeSync } from 'node:fs';
import type { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import { memfdCreate, readDescriptor } from '../sys/descriptor.ts';
import { boundedTake, collectPipe } from '../sys/pipe-reader.ts';
import { spawn } from '../sys/spawn.ts';
import type { ChildHandle, ExitStatus } from '../sys/spawn.ts';
import { globalArgs, pinned } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import { killExec } from './kill-exec.ts';
import type { ExecSyncOptions, ExecSyncResult } from './runtime.ts';

const maxLogBytes = 65536;
const signalBase = 128;

/**
 * Runs a command in a container: one process of the runtime, no file. The process object and the runtime's own log are
 * memfds; the log tells a start that failed from a command that ended with the same code.
 * Throws when the command cannot be started, with CRI-O's text.
 */
export async function execSync(call: Call, command: RuntimeCommand, options: ExecSyncOptions): Promise<ExecSyncResult> {
  call.throwIfAborted();
  const processFd = memfdCreate('process', JSON.stringify({ ...options.process, terminal: false }));
  const logFd = memfdCreate('log');
  try {
    const { child, endOutput } = start(command, options, processFd, logFd);
    const { status, timedOut } = await waitForEnd(call, child, options.timeoutMs);
    const { stdout, stderr } = endOutput();
    call.throwIfAborted();
    const exitCode = status.code ?? signalBase + (status.signal ?? 0);
    if (!timedOut) throwIfNotStarted(exitCode, readDescriptor(logFd, maxLogBytes).toString(), stdout, stderr);
    return { stdout, stderr, exitCode, timedOut };
  } finally {
    closeSync(processFd);
    closeSync(logFd);
  }
}

interface Output {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** `endOutput` gives what was kept once the command has ended: a process it left behind may keep the pipes open. */
function start(
  command: RuntimeCommand,
  options: ExecSyncOptions,
  processFd: number,
  logFd: number,
): { child: ChildHandle; endOutput: () => Output } {
  const args = [
    ...globalArgs(command, { withCgroupManager: false }),
    ...['--log', '/proc/self/fd/4', '--log-format', 'json'],
    ...['exec', '--process', '/proc/self/fd/3', options.id],
  ];
  const stdio = ['null', 'pipe', 'pipe', { fd: processFd }, { fd: logFd }] as const;
  const child = spawn({ ...pinned(command, command.path, args), env: command.env, stdio });
  const take = boundedTake(options.maxOutputBytes);
  const [stdout, stderr] = [collectPipe(child, 1, take), collectPipe(child, 2, take)];
  const empty = Buffer.alloc(0);
  return { child, endOutput: () => ({ stdout: stdout?.drain() ?? empty, stderr: stderr?.drain() ?? empty }) };
}

/** On a timeout, or when the caller gives up, every process of the exec is killed; the runtime then ends by itself. */
async function waitForEnd(
  call: Call,
  child: ChildHandle,
  timeoutMs: number,
): Promise<{ status: ExitStatus; timedOut: boolean }> {
  let timedOut = false;
  let killing: Promise<void> | undefined;
  const giveUp = () => {
    killing ??= killExec(child).catch((error: unknown) => call.log.error(`kill the processes of exec ${child.pid}`, error));
  };
  const timer =
    timeoutMs > 0
      ? setTimeout(() => {
          timedOut = true;
          giveUp();
        }, timeoutMs)
      : undefined;
  call.signal.addEventListener('abort', giveUp, { once: true });
  try {
    const status = await child.exited;
    // The rest of the session may outlive the runtime by a moment.
    await killing;
    return { status, timedOut };
  } finally {
    clearTimeout(timer);
    call.signal.removeEventListener('abort', giveUp);
  }
}

/** Exit codes with which runtimes report that they could not start the command; a command may end with them too. */
const startFailureCodes = [1, 255];

function throwIfNotStarted(exitCode: number, log: string, stdout: Buffer, stderr: Buffer): void {
  if (!startFailureCodes.includes(exitCode)) return;
  const text = lastError(log);
  if (text === undefined) return;
  throw new CrioError('unknown', `command error: ${text}, stdout: ${stdout}, stderr: ${stderr}, exit code -1`);
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
