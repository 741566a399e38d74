import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { waitFor } from '../client/pods.ts';
import { apiUrl, fullName } from './api.ts';

export const transports = ['SPDY', 'WebSocket'] as const;
export type Transport = (typeof transports)[number];

export interface StreamTarget {
  readonly program: string;
  readonly transport: Transport;
  readonly pod: string;
  readonly container: string;
}

export interface StreamOptions {
  readonly stdin?: boolean;
  readonly tty?: boolean;
  /** The first is sent at once, each other by `resize`. */
  readonly sizes?: readonly string[];
}

/** kubectl's client with a stream of the kubelet. */
export interface Stream extends AsyncDisposable {
  /** What has come until now. */
  stdout(): string;
  stderr(): string;
  write(text: string | Buffer): void;
  end(): void;
  resize(): void;
  /** Waits until stdout has what is looked for. */
  expect(pattern: RegExp): Promise<RegExpExecArray>;
  /** The command's exit code; 250 when the client failed. */
  readonly exited: Promise<number>;
}

export function exec(target: StreamTarget, command: readonly string[], options: StreamOptions = {}): Stream {
  const query = command.map((word) => `command=${encodeURIComponent(word)}`).join('&');
  return startStream(target, `${pathOf('exec', target)}?${query}`, options);
}

export function attach(target: StreamTarget, options: StreamOptions = {}): Stream {
  return startStream(target, pathOf('attach', target), options);
}

function pathOf(verb: string, { pod, container }: StreamTarget): string {
  return `/${verb}/default/${fullName(pod)}/${container}`;
}

function startStream({ program, transport }: StreamTarget, path: string, options: StreamOptions): Stream {
  const { stdin = false, tty = false, sizes = [] } = options;
  const flags = [
    ...flagsOf(transport),
    ...(stdin ? ['-stdin'] : []),
    ...(tty ? ['-tty'] : []),
    ...(sizes.length > 0 ? ['-sizes', sizes.join(',')] : []),
  ];
  const child = spawn(program, ['stream', ...flags, `${apiUrl}${path}`], { stdio: 'pipe' });
  const output = collect(child);
  const exited = exitOf(child);
  // The client may end before it has read all.
  child.stdin.on('error', () => undefined);
  if (!stdin) child.stdin.end();
  return {
    stdout: () => output.stdout(),
    stderr: () => output.stderr(),
    write: (text) => void child.stdin.write(text),
    end: () => child.stdin.end(),
    resize: () => void child.kill('SIGUSR1'),
    expect: (pattern) =>
      waitFor(`${String(pattern)} in the output`, 60_000, () => pattern.exec(output.stdout()) ?? undefined),
    exited,
    [Symbol.asyncDispose]: () => endOf(child, exited),
  };
}

function flagsOf(transport: Transport): string[] {
  return transport === 'WebSocket' ? ['-websocket'] : [];
}

function collect(child: ChildProcess): { stdout: () => string; stderr: () => string } {
  const parts: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  child.stdout?.on('data', (part: Buffer) => parts.stdout.push(part));
  child.stderr?.on('data', (part: Buffer) => parts.stderr.push(part));
  return {
    stdout: () => Buffer.concat(parts.stdout).toString(),
    stderr: () => Buffer.concat(parts.stderr).toString(),
  };
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? -1));
  });
}

async function endOf(child: ChildProcess, exited: Promise<number>): Promise<void> {
  child.kill('SIGKILL');
  await exited;
}

export interface Forward extends AsyncDisposable {
  /** On loopback, for the pod's port. */
  readonly localPort: number;
}

/** Forwards a free local port to a port of the pod. */
export async function forward(
  { program, transport, pod }: Omit<StreamTarget, 'container'>,
  port: number,
): Promise<Forward> {
  const url = `${apiUrl}/portForward/default/${fullName(pod)}`;
  const child = spawn(program, ['forward', ...flagsOf(transport), url, String(port)], { stdio: 'pipe' });
  const exited = exitOf(child);
  const output = collect(child);
  const lines = createInterface(child.stdout);
  const first = new Promise<string>((resolve) => lines.once('line', resolve));
  const line = await Promise.race([first, exited.then((code) => `exit code ${code}: ${output.stderr()}`)]);
  const localPort = Number(/^(\d+) \d+$/.exec(line)?.[1] ?? Number.NaN);
  if (Number.isNaN(localPort)) throw new Error(`forward to port ${port} of pod "${pod}": ${line}`);
  return { localPort, [Symbol.asyncDispose]: () => endOf(child, exited) };
}
