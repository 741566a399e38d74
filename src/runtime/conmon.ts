import { closeSync, readFileSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Call } from '../base/call.ts';
import { CrioError, hasCode, messageOf, wrap } from '../base/errors.ts';
import { createPipe } from '../sys/descriptor.ts';
import { kill, readStat, startTime } from '../sys/process.ts';
import { PipeReader } from '../sys/pipe-reader.ts';
import { spawn } from '../sys/spawn.ts';
import type { ChildHandle } from '../sys/spawn.ts';
import { exitText, pinned } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import type { CreateOptions, CreatedProcess, ProcessRef } from './runtime.ts';
import { maxSyncMessageBytes, parseSyncMessage } from './sync-message.ts';
import type { SyncMessage } from './sync-message.ts';

/** What the configuration says about the monitor. */
export interface MonitorSettings {
  readonly path: string;
  readonly exitsDir: string;
  readonly attachSocketDir: string;
  readonly logLevel: string;
  /** Bytes; negative: no limit */
  readonly logSizeMax: number;
  readonly logToJournald: boolean;
  readonly noPivot: boolean;
  readonly noSyncLog: boolean;
}

/** The command line, word for word as CRI-O's. */
export function conmonArgs(command: RuntimeCommand, monitor: MonitorSettings, options: CreateOptions): string[] {
  const { bundle, id } = options;
  const args = ['-b', bundle, '-c', id, '--exit-dir', monitor.exitsDir, '-l', options.logPath];
  args.push('--log-level', monitor.logLevel, '-n', options.name, '-P', join(bundle, 'conmon-pidfile'));
  args.push('-p', join(bundle, 'pidfile'), '--persist-dir', options.persistDir, '-r', command.path);
  args.push(
    '--runtime-arg',
    `--root=${command.root}`,
    '--socket-dir-path',
    monitor.attachSocketDir,
    '--syslog',
    '-u',
    id,
  );
  if (command.systemdCgroup) args.push('-s');
  if (monitor.logSizeMax >= 0) args.push('--log-size-max', String(monitor.logSizeMax));
  if (monitor.noSyncLog) args.push('--no-sync-log');
  if (monitor.logToJournald) args.push('--log-path', 'journald:');
  if (monitor.noPivot) args.push('--no-pivot');
  if (options.terminal) args.push('-t');
  else if (options.stdin) args.push(...(options.stdinOnce ? [] : ['--leave-stdin-open']), '-i');
  return args;
}

/**
 * Starts the monitor and waits until it says that the runtime has created the container. On failure monitor and log file
 * are gone; what the runtime may have left is the caller's to delete.
 */
export async function createWithConmon(
  call: Call,
  command: RuntimeCommand,
  monitor: MonitorSettings,
  options: CreateOptions,
): Promise<CreatedProcess> {
  try {
    const message = await startAndListen(call, command, monitor, options);
    if (message.pid <= 0) throw createFailed(message.message);
    return { init: referTo(message.pid), monitor: readMonitor(options.bundle) };
  } catch (error) {
    killMonitor(options);
    await removeTraces(call, monitor, options);
    throw error;
  }
}

/** CRI-O's text, which users search for. */
function createFailed(message: string): CrioError {
  return new CrioError(
    'unknown',
    message === '' ? 'container create failed' : `container create failed: ${message.trimEnd()}`,
  );
}

/** The process is this one even if it has ended since: then no start time fits it. */
function referTo(pid: number): ProcessRef {
  return { pid, startTime: startTime(pid) ?? 'ended' };
}

async function startAndListen(
  call: Call,
  command: RuntimeCommand,
  monitor: MonitorSettings,
  options: CreateOptions,
): Promise<SyncMessage> {
  const child = spawnMonitor(command, monitor, options);
  const guard = guardTime(call, options.timeoutMs);
  try {
    const sync = readSync(child);
    try {
      // The first process ends when the daemon child runs; `exited` is reported before anything that child writes.
      const status = await Promise.race([child.exited, guard.over]);
      if (status.code !== 0) throw monitorFailed(child, options.logPath, exitText({ ...status, timedOut: false }));
      return await Promise.race([sync.message, guard.over]);
    } finally {
      sync.close();
    }
  } catch (error) {
    child.kill(constants.signals.SIGKILL, { group: true });
    throw error;
  } finally {
    guard.end();
    child.close();
  }
}

function spawnMonitor(command: RuntimeCommand, monitor: MonitorSettings, options: CreateOptions): ChildHandle {
  const start = createPipe();
  try {
    const child = spawn({
      ...pinned(command, monitor.path, conmonArgs(command, monitor, options)),
      cwd: options.bundle,
      env: { ...command.env, _OCI_SYNCPIPE: '3', _OCI_STARTPIPE: '4' },
      stdio: ['null', 'memfd', 'memfd', 'pipe', { fd: start.read }],
    });
    // The monitor waits for this byte: the place to move it to a cgroup of its own.
    writeSync(start.write, new Uint8Array(1));
    return child;
  } finally {
    closeSync(start.read);
    closeSync(start.write);
  }
}

/** conmon does not name the file when it is the log that cannot be opened. */
function monitorFailed(child: ChildHandle, logPath: string, status: string): CrioError {
  // Option errors are on stdout up to conmon 2.1.7.
  const text = [2, 1].map((index) => child.takeMemfd(index).toString().trim()).find((output) => output !== '');
  return new CrioError(
    'unknown',
    `container create failed: conmon with log "${logPath}": ${text === undefined ? '' : `${text}: `}${status}`,
  );
}

/** The one message; rejects at the end of the stream or when it is none. */
function readSync(child: ChildHandle): { readonly message: Promise<SyncMessage>; close(): void } {
  const { promise, resolve, reject } = Promise.withResolvers<SyncMessage>();
  promise.catch(() => {});
  const fd = child.takePipe(3);
  if (fd === undefined) throw new CrioError('internal', 'monitor without a sync pipe');
  let received = Buffer.alloc(0);
  const reader = new PipeReader(fd, (chunk) => {
    received = Buffer.concat([received, chunk]);
    try {
      const message = parseSyncMessage(received);
      if (message !== undefined) resolve(message);
      else if (received.length > maxSyncMessageBytes) throw new RangeError('too long');
    } catch (error) {
      reject(wrap('error reading container (probably exited) json message', error, 'unknown'));
    }
  });
  reader.start();
  void reader.ended.then(() =>
    reject(new CrioError('unknown', 'error reading container (probably exited) json message: EOF')),
  );
  return { message: promise, close: () => reader.close() };
}

/** Rejects when the time is over or the call is aborted. */
function guardTime(call: Call, timeoutMs: number): { readonly over: Promise<never>; end(): void } {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  const timer = setTimeout(() => reject(new CrioError('deadline', 'create container timeout')), timeoutMs);
  const onAbort = () => reject(new CrioError('canceled', 'create container: context canceled'));
  call.signal.addEventListener('abort', onAbort, { once: true });
  if (call.signal.aborted) onAbort();
  return {
    over: promise,
    end() {
      clearTimeout(timer);
      call.signal.removeEventListener('abort', onAbort);
    },
  };
}

/** The daemon child, which the monitor's first process names before it ends. */
function readMonitor(bundle: string): ProcessRef | undefined {
  try {
    const pid = Number(readFileSync(join(bundle, 'conmon-pidfile'), 'latin1'));
    return Number.isInteger(pid) && pid > 1 ? referTo(pid) : undefined;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** A monitor that still waits for its runtime takes it along (PDEATHSIG). The pid file may be of another time. */
function killMonitor(options: CreateOptions): void {
  const monitor = readMonitor(options.bundle);
  if (monitor === undefined || readStat(monitor.pid)?.command !== 'conmon') return;
  try {
    const args = readFileSync(`/proc/${monitor.pid}/cmdline`, 'utf8').split('\0');
    if (args.includes(options.id)) kill(monitor.pid, constants.signals.SIGKILL);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ESRCH')) throw error;
  }
}

async function removeTraces(call: Call, monitor: MonitorSettings, options: CreateOptions): Promise<void> {
  for (const path of [options.logPath, join(monitor.attachSocketDir, options.id)]) {
    try {
      await rm(path, { force: true });
    } catch (error) {
      call.log.warn(`remove "${path}" of a failed creation: ${messageOf(error)}`);
    }
  }
}
