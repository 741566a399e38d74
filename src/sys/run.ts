import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { CrioError } from '../base/errors.ts';
import { memfdCreate } from './descriptor.ts';
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
  /** With pipes: bytes kept of each stream, 1 MiB by default; the rest is read and dropped. */
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
/** How long output may still come after the end, through a pipe that a grandchild keeps open. */
const drainMs = 200;

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
  const collected = [child.stdout, child.stderr].map((stream) => (stream === undefined ? undefined : collect(stream, max)));
  const { status, timedOut } = await waitOrKill(child, options);
  if (options.signal?.aborted === true) {
    for (const part of collected) part?.stop();
    const reason: unknown = options.signal.reason;
    throw reason instanceof CrioError ? reason : new CrioError('canceled', `run "${options.file}": context canceled`);
  }
  const [stdout, stderr] = await Promise.all(
    collected.map((part, index) => (part === undefined ? child.takeMemfd(index + 1) : part.finish(drainMs))),
  );
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

/** Reads a stream to its end and keeps the first `maxBytes`. */
export interface Collector {
  /** The bytes kept so far. */
  content(): Buffer;
  /** Waits for the end of the stream, but no longer than `graceMs`; then it is closed. */
  finish(graceMs: number): Promise<Buffer>;
  stop(): void;
}

/** `take` may share a bound between streams: it says how many of `length` bytes are still wanted. */
export function collect(stream: Readable, maxBytes: number, take = boundedTake(maxBytes)): Collector {
  const chunks: Buffer[] = [];
  const ended = new Promise<void>((resolve) => {
    stream.once('close', resolve);
    stream.once('end', resolve);
    stream.once('error', () => resolve());
  });
  stream.on('data', (chunk: Buffer) => {
    const wanted = take(chunk.length);
    if (wanted > 0) chunks.push(wanted === chunk.length ? chunk : chunk.subarray(0, wanted));
  });
  const content = () => Buffer.concat(chunks);
  return {
    content,
    stop: () => void stream.destroy(),
    async finish(graceMs) {
      const timer = setTimeout(() => stream.destroy(), graceMs);
      await ended;
      clearTimeout(timer);
      stream.destroy();
      return content();
    },
  };
}

/** A counter that gives out `maxBytes` in all. */
export function boundedTake(maxBytes: number): (length: number) => number {
  let left = maxBytes;
  return (length) => {
    const taken = Math.min(length, left);
    left -= taken;
    return taken;
  };
}
