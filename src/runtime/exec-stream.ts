import { fchownSync } from 'node:fs';
import type { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import { ConsoleSocket } from '../sys/console-socket.ts';
import { duplicate } from '../sys/descriptor.ts';
import { DescriptorReader, DescriptorWriter } from '../sys/descriptor-stream.ts';
import { expectOrphan } from '../sys/reaper.ts';
import { spawn } from '../sys/spawn.ts';
import type { ChildHandle, Stdio } from '../sys/spawn.ts';
import { endOfInputCharacter, setTerminalSize } from '../sys/terminal.ts';
import { exitText, globalArgs, pinned } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import { withAffinity } from './exec-affinity.ts';
import { ExecFiles, exitCodeOf, startError } from './exec-files.ts';
import { killExec } from './kill-exec.ts';
import type { ExecProcess, ExecStreamOptions } from './runtime.ts';

type Ends = Pick<ExecProcess, 'stdin' | 'stdout' | 'stderr' | 'resize'>;

/**
 * Starts a command in a container; its pipes or its terminal come straight to the daemon. As with `execSync` the runtime
 * ends once the command runs, and the command becomes the daemon's child. When the call is aborted before that, nothing
 * is left; afterwards the command is the caller's.
 */
export async function execStream(
  call: Call,
  command: RuntimeCommand,
  options: ExecStreamOptions,
): Promise<ExecProcess> {
  call.throwIfAborted();
  using files = new ExecFiles(withAffinity(options.process, command.execCpuAffinity, options.cpus));
  using orphan = expectOrphan();
  using console = options.process.terminal === true ? new ConsoleSocket(files.consolePath) : undefined;
  const child = start(command, options, files);
  let ends: Ends | undefined;
  try {
    if (console === undefined) ends = pipesOf(child, options);
    const pid = await waitForStart(call, child, files);
    const { exited } = orphan.claim(pid);
    const kill = () => killExec(child, pid);
    const exitCode = exited.then((status) => exitCodeOf(pid, status));
    // Whoever waits hears of it; that nobody waits is no reason to end the daemon.
    exitCode.catch(() => {});
    try {
      call.throwIfAborted();
      ends ??= terminalOf(console, options);
    } catch (error) {
      await kill();
      throw error;
    }
    const open = ends;
    ends = undefined;
    return { ...open, exited: exitCode, kill, [Symbol.dispose]: () => closeEnds(open) };
  } finally {
    if (ends !== undefined) closeEnds(ends);
    child.close();
  }
}

function start(command: RuntimeCommand, options: ExecStreamOptions, files: ExecFiles): ChildHandle {
  const hasTerminal = options.process.terminal === true;
  const args = [
    ...globalArgs(command, { withCgroupManager: false }),
    ...['--log', files.logPath, '--log-format', 'json'],
    ...['exec', '--detach', '--pid-file', files.pidPath, '--process', files.processPath],
    ...(hasTerminal ? ['--tty', '--console-socket', files.consolePath] : []),
    options.id,
  ];
  const pipeIf = (wanted: boolean): Stdio => (wanted && !hasTerminal ? 'pipe' : 'null');
  const stdio = [options.stdin, options.stdout, options.stderr].map(pipeIf);
  return spawn({ ...pinned(command, command.path, args), env: command.env, stdio });
}

/** The command's pid. */
async function waitForStart(call: Call, child: ChildHandle, files: ExecFiles): Promise<number> {
  let killing: Promise<void> | undefined;
  const onAbort = () => {
    killing = killExec(child, undefined).catch((error: unknown) => call.log.error(`kill exec ${child.pid}`, error));
  };
  call.signal.addEventListener('abort', onAbort, { once: true });
  try {
    const status = await child.exited;
    await killing;
    const pid = status.code === 0 ? files.readPid() : undefined;
    if (pid !== undefined) return pid;
    call.throwIfAborted();
    throw new CrioError('unknown', startError(files.readLog()) ?? exitText({ ...status, timedOut: false }));
  } finally {
    call.signal.removeEventListener('abort', onAbort);
  }
}

/** The command may open its own descriptors again through /dev/stdout, so they belong to its user. */
function pipesOf(child: ChildHandle, { owner }: ExecStreamOptions): Ends {
  const [input, output, errors] = [0, 1, 2].map((index) => {
    const fd = child.takePipe(index);
    if (fd !== undefined) fchownSync(fd, owner.uid, owner.gid);
    return fd;
  });
  return {
    stdin: input === undefined ? undefined : new DescriptorWriter(input),
    stdout: output === undefined ? undefined : new DescriptorReader(output),
    stderr: errors === undefined ? undefined : new DescriptorReader(errors),
    resize() {},
  };
}

/** Both directions of the master side; the reader and the writer wait on descriptors of their own. */
function terminalOf(console: ConsoleSocket | undefined, options: ExecStreamOptions): Ends {
  const master = console?.take();
  if (master === undefined) throw new CrioError('internal', 'terminal of an exec without one');
  const inputFd = duplicate(master);
  const reader = new DescriptorReader(master);
  const writer = new DescriptorWriter(inputFd);
  let isOpen = true;
  const close = () => {
    isOpen = false;
    writer.close();
  };
  const end = () => {
    const character = isOpen ? endOfInputCharacter(inputFd) : undefined;
    if (character !== undefined) void writer.write(Uint8Array.of(character));
  };
  return {
    stdin: { write: async (data) => !options.stdin || writer.write(data), end, close },
    stdout: reader,
    stderr: undefined,
    resize(size) {
      if (isOpen) setTerminalSize(inputFd, size);
    },
  };
}

function closeEnds({ stdin, stdout, stderr }: Ends): void {
  stdin?.close();
  stdout?.close();
  stderr?.close();
}
