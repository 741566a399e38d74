import { closeSync, fchownSync } from 'node:fs';
import type { Call } from '../base/call.ts';
import { CrioError, wrap } from '../base/errors.ts';
import { ConsoleSocket } from '../sys/console-socket.ts';
import { duplicate } from '../sys/descriptor.ts';
import { DescriptorReader, DescriptorWriter } from '../sys/descriptor-stream.ts';
import { expectOrphan } from '../sys/reaper.ts';
import type { Orphan } from '../sys/reaper.ts';
import type { ChildHandle, Stdio } from '../sys/spawn.ts';
import { endOfInputCharacter, setTerminalSize } from '../sys/terminal.ts';
import { exitText, globalArgs } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import { withAffinity } from './exec-affinity.ts';
import { ExecFiles, exitCodeOf, startError, startedPid } from './exec-files.ts';
import type { ExecPlace } from './exec-sync.ts';
import { turnToStart } from './exec-turns.ts';
import { endStart, killCommand } from './kill-exec.ts';
import type { ExecProcess, ExecStreamOptions } from './runtime.ts';
import { spawnExec } from './sealed-program.ts';

type Ends = Pick<ExecProcess, 'stdin' | 'stdout' | 'stderr' | 'resize'>;

/**
 * Starts a command in a container; its pipes or its terminal come straight to the daemon. As with `execSync` the runtime
 * ends once the command runs, and the command becomes the daemon's child. When the call is aborted before that, nothing
 * is left; afterwards the command is the caller's.
 */
export async function execStream(call: Call, place: ExecPlace, options: ExecStreamOptions): Promise<ExecProcess> {
  call.throwIfAborted();
  const { command, processesOf } = place;
  const processes = () => processesOf(options.id);
  using _turn = await turnToStart(call.signal, options.id);
  using files = new ExecFiles(withAffinity(options.process, command.execCpuAffinity, options.cpus));
  using orphan = expectOrphan();
  using console = options.process.terminal === true ? new ConsoleSocket(files.consolePath) : undefined;
  using failed = new DisposableStack();
  const child = start(command, options, files);
  failed.defer(() => child.close());
  const pipes = console === undefined ? pipesOf(child, options) : undefined;
  if (pipes?.ends !== undefined) failed.adopt(pipes.ends, closeEnds);
  const pid = await waitForStart(call, child, files);
  const { exited, kill } = endableCommand(processes, orphan.claim(pid));
  try {
    call.throwIfAborted();
    if (pipes?.failure !== undefined) throw pipes.failure;
    const ends = pipes?.ends ?? terminalOf(console, options);
    failed.move();
    child.close();
    return { ...ends, exited, kill, [Symbol.dispose]: () => closeEnds(ends) };
  } catch (error) {
    await kill();
    throw error;
  }
}

function endableCommand(processes: () => readonly number[], command: Orphan): Pick<ExecProcess, 'exited' | 'kill'> {
  const exited = command.exited.then((status) => exitCodeOf(command.pid, status));
  // Whoever waits hears of it; that nobody waits is no reason to end the daemon.
  exited.catch(() => {});
  return { exited, kill: () => killCommand(command, processes) };
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
  return spawnExec(command, args, stdio);
}

/** The command's pid; also when the call is aborted meanwhile. */
async function waitForStart(call: Call, runtime: ChildHandle, files: ExecFiles): Promise<number> {
  const onAbort = () => {
    endStart(runtime, files.pidPath).catch((error: unknown) => call.log.error(`kill exec ${runtime.pid}`, error));
  };
  call.signal.addEventListener('abort', onAbort, { once: true });
  try {
    const status = await runtime.exited;
    const pid = startedPid(status, files);
    if (pid !== undefined) return pid;
    call.throwIfAborted();
    throw new CrioError('unknown', startError(files.readLog()) ?? exitText({ ...status, timedOut: false }));
  } finally {
    call.signal.removeEventListener('abort', onAbort);
  }
}

/**
 * The command may open its own descriptors again through /dev/stdout, so they belong to its user. A failure is given, not
 * thrown: the command is about to start and somebody must end it.
 */
function pipesOf(child: ChildHandle, { owner }: ExecStreamOptions): { ends?: Ends; failure?: CrioError } {
  using open = new DisposableStack();
  try {
    const [input, output, errors] = [0, 1, 2].map((index) => {
      const fd = child.takePipe(index);
      if (fd === undefined) return undefined;
      open.adopt(fd, closeSync);
      fchownSync(fd, owner.uid, owner.gid);
      return fd;
    });
    const ends: Ends = {
      stdin: input === undefined ? undefined : new DescriptorWriter(input),
      stdout: output === undefined ? undefined : new DescriptorReader(output),
      stderr: errors === undefined ? undefined : new DescriptorReader(errors),
      resize() {},
    };
    open.move();
    return { ends };
  } catch (error) {
    return { failure: wrap('hand pipes to the user of a command', error) };
  }
}

/** Both directions of the master side; the reader and the writer wait on descriptors of their own. */
function terminalOf(console: ConsoleSocket | undefined, options: ExecStreamOptions): Ends {
  const master = console?.take();
  if (master === undefined) throw new CrioError('internal', 'terminal of an exec without one');
  using failed = new DisposableStack();
  failed.adopt(master, closeSync);
  const inputFd = duplicate(master);
  failed.move();
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
