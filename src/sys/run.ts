import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { CrioError } from '../base/errors.ts';
import { memfdCreate } from './descriptor.ts';
import { boundedTake, collectPipe } from './pipe-reader.ts';
import { spawn } from './spawn.ts';
import type { ChildHandle, ExitStatus, SpawnOptions, Stdio } from './spawn.ts';

export interface RunOptions extends Omit<SpawnOptions, 'stdio'> {
  /** Standard input; empty without. */
  readonly input?: string | Uint8Array;
  /**
   * Where output goes. `memfd` (default): to memory, read after the end, for programs that print little; no pipe that a
   * grandchild keeps open. `pipe`: for what a container, plugin or hook prints.
   */
  readonly output?: 'memfd' | 'pipe';
  /** With pipes: bytes kept of each, 1 MiB by default; the rest is read and dropped. */
  readonly maxOutputBytes?: number;
  /** After this time its process group is killed; 0 or undefined: never. */
  readonly timeoutMs?: number | undefined;
  /** Kills its process group; `run` then rejects. */
  readonly signal?: AbortSignal | undefined;
  /** Descriptors that become 3, 4, ... in the child; they stay the caller's. */
  readonly extraFds?: readonly number[];
}

export interface RunResult extends ExitStatus {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly timedOut: boolean;
}

const defaultMaxOutput = 1 << 20;
/** Runs a program to its end. An exit status other than 0 is a result, not an error; one that cannot start throws. */
export async function run(options: RunOptions): Promise<RunResult> {
  options.signal?.throwIfAborted();
  const input = options.input === undefined ? undefined : memfdCreate('stdin', options.input);
  let child: ChildHandle;
  try {
    child = spawn({ ...options, stdio: stdioOf(options, input) });
  } finally {
    if (input !== undefined) closeSync(input);
  }
  try {
    return await finish(child, options);
  } finally {
    child.close();
  }
}

function stdioOf(options: RunOptions, input: number | undefined): Stdio[] {
  const output = options.output ?? 'memfd';
  const extra = (options.extraFds ?? []).map((fd) => ({ fd }));
  return [input === undefined ? 'null' : { fd: input }, output, output, ...extra];
}

async function finish(child: ChildHandle, options: RunOptions): Promise<RunResult> {
  const max = options.maxOutputBytes ?? defaultMaxOutput;
  const outputs = [1, 2].map((index) => collectPipe(child, index, boundedTake(max)));
  for (const output of outputs) output?.start();
  const { status, timedOut } = await waitOrKill(child, options);
  const [stdout, stderr] = outputs.map((output, index) => output?.drain() ?? child.takeMemfd(index + 1));
  if (options.signal?.aborted === true) {
    const reason: unknown = options.signal.reason;
    throw reason instanceof CrioError ? reason : new CrioError('canceled', `run "${options.file}": context canceled`);
  }
  return { ...status, timedOut, stdout: stdout ?? Buffer.alloc(0), stderr: stderr ?? Buffer.alloc(0) };
}

async function waitOrKill(child: ChildHandle, options: RunOptions): Promise<{ status: ExitStatus; timedOut: boolean }> {
  let timedOut = false;
  const killAll = () => child.kill(constants.signals.SIGKILL, { group: true });
  const timer =
    options.timeoutMs === undefined || options.timeoutMs <= 0
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          killAll();
        }, options.timeoutMs);
  options.signal?.addEventListener('abort', killAll, { once: true });
  try {
    return { status: await child.exited, timedOut };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', killAll);
  }
}
