import { closeSync, readFileSync, unlinkSync } from 'node:fs';
import { CrioError, hasCode } from '../base/errors.ts';
import { descriptorPath, memfdCreate, readDescriptor } from '../sys/descriptor.ts';
import { createDetachedTmpfs } from '../sys/mount.ts';
import type { ExitStatus } from '../sys/spawn.ts';
import { busyBinaryLine } from './busy-binary.ts';
import { writeExactIntegers } from './spec/exact-integer.ts';
import type { Process } from './spec/oci.ts';

const maxLogBytes = 65536;
const signalBase = 128;

/** A tmpfs that only this process knows, for the runtimes' pid files. */
let pidFolder: number | undefined;
/** Each file takes a page; there are as many as commands that are just being started, see exec-turns.ts. */
const pidFolderBytes = 16 << 20;
let pidFileCount = 0;

/**
 * What an exec exchanges with the runtime, all in memory. The runtime opens it through /proc/<daemon>/fd instead of
 * inheriting descriptors, which could reach the container (CVE-2024-21626).
 */
export class ExecFiles implements Disposable {
  readonly #process: number;
  readonly #log: number;
  readonly #open: DisposableStack;
  readonly pidPath: string;

  constructor(process: Process) {
    using open = new DisposableStack();
    this.#process = open.adopt(memfdCreate('process', JSON.stringify(process, writeExactIntegers)), closeSync);
    this.#log = open.adopt(memfdCreate('log'), closeSync);
    pidFolder ??= createDetachedTmpfs(pidFolderBytes);
    this.pidPath = `${descriptorPath(pidFolder)}/exec-${++pidFileCount}`;
    open.defer(() => unlinkIfThere(this.pidPath));
    if (process.terminal === true) open.defer(() => unlinkIfThere(this.consolePath));
    this.#open = open.move();
  }

  get processPath(): string {
    return descriptorPath(this.#process);
  }

  get logPath(): string {
    return descriptorPath(this.#log);
  }

  /** Where the runtime can be told to send a terminal to; nothing is there yet. */
  get consolePath(): string {
    return `${this.pidPath}-tty`;
  }

  /** Undefined when the runtime did not get that far. */
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

  /** A second time does nothing. */
  [Symbol.dispose](): void {
    this.#open.dispose();
  }
}

/** `rmSync` takes five times as long. */
function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

/** The command's pid; undefined when the runtime did not start it. One that was killed had perhaps come so far. */
export function startedPid({ code, signal }: ExitStatus, files: ExecFiles): number | undefined {
  return code === 0 || signal !== undefined ? files.readPid() : undefined;
}

/** Why a command was not started, from the runtime's log and its own output. */
export function startError(log: string, output = ''): string | undefined {
  const last = lastError(log);
  const busy = busyBinaryLine(log) ?? busyBinaryLine(output);
  return busy === undefined || last?.includes(busy) === true ? last : [last, busy].filter(Boolean).join(': ');
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

/** As a shell counts: 128 + N for a command that signal N ended. */
export function exitCodeOf(pid: number, { code, signal }: ExitStatus): number {
  if (code !== undefined) return code;
  if (signal !== undefined) return signalBase + signal;
  throw new CrioError('internal', `wait for exec ${pid}: somebody else took its exit status`);
}
