import type { Call } from '../base/call.ts';
import { CrioError, kindOf, messageOf } from '../base/errors.ts';
import type { Container } from '../container/container.ts';
import type { ContainerRuntime, ExecProcess, InputStream } from '../runtime/runtime.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import type { RemoteCommandOptions, RemoteResult, RemoteStreams, StreamSink } from './remote-command.ts';

export interface ExecRequest extends RemoteCommandOptions {
  readonly containerId: string;
  readonly command: readonly string[];
}

export interface ExecDeps {
  /** Throws when no command may start in the container now. */
  readonly requireExecutable: (id: string) => Container;
  readonly runtimeOf: (container: Container) => ContainerRuntime;
}

/** A client sends the size of its terminal right after it has opened the streams. */
const firstSizeLimitMs = 100;
/** Background processes may hold the output after the command has ended; what they write for so long still counts. */
const drainLimitMs = 1000;

/** Runs the command until it ends, or until the client goes, which ends it. */
export async function runExec(
  call: Call,
  deps: ExecDeps,
  request: ExecRequest,
  streams: RemoteStreams,
): Promise<RemoteResult> {
  try {
    using command = await startCommand(call, deps, request, streams);
    return { kind: 'exit', code: await attendCommand(call, command, request, streams) };
  } catch (error) {
    return { kind: 'failure', message: `error executing command in container: ${grpcText(error)}` };
  }
}

async function startCommand(
  call: Call,
  deps: ExecDeps,
  request: ExecRequest,
  streams: RemoteStreams,
): Promise<ExecProcess> {
  const size = request.tty ? await streams.sizes.first(firstSizeLimitMs) : undefined;
  const container = deps.requireExecutable(request.containerId);
  const { process, linux } = container.spec;
  if (container.state.status !== 'running' || process === undefined) {
    throw new CrioError(
      'not-found',
      `container is not created or running: ${container.id} is ${container.state.status}`,
    );
  }
  return deps.runtimeOf(container).execStream(call, {
    id: container.id,
    process: {
      ...process,
      args: [...request.command],
      terminal: request.tty,
      ...(size === undefined ? {} : { consoleSize: size }),
    },
    stdin: request.stdin,
    stdout: request.stdout,
    stderr: request.stderr,
    cpus: linux?.resources?.cpu?.cpus,
    owner: { uid: hostId(process.user.uid, linux?.uidMappings), gid: hostId(process.user.gid, linux?.gidMappings) },
  });
}

type IdMappings = NonNullable<NonNullable<Spec['linux']>['uidMappings']>;

function hostId(id: number, mappings: IdMappings | undefined): number {
  const found = mappings?.find(({ containerID, size }) => id >= containerID && id < containerID + size);
  return found === undefined ? id : found.hostID + (id - found.containerID);
}

async function attendCommand(
  call: Call,
  command: ExecProcess,
  request: ExecRequest,
  streams: RemoteStreams,
): Promise<number> {
  using _sizes = streams.sizes.follow((size) => command.resize(size));
  const kill = () => {
    command.kill().catch((error: unknown) => call.log.error(`end exec in container ${request.containerId}`, error));
  };
  streams.closed.addEventListener('abort', kill, { once: true });
  if (streams.closed.aborted) kill();
  try {
    feed(command, streams).catch((error: unknown) => {
      call.log.warn(`pass input on to exec in container ${request.containerId}`, error);
    });
    const outputs = Promise.all([pump(command.stdout, streams.stdout), pump(command.stderr, streams.stderr)]);
    const code = await command.exited;
    const endOutputs = () => {
      command.stdout?.endWhenEmpty();
      command.stderr?.endWhenEmpty();
    };
    const timer = setTimeout(endOutputs, streams.closed.aborted ? 0 : drainLimitMs);
    await outputs;
    clearTimeout(timer);
    return code;
  } finally {
    streams.closed.removeEventListener('abort', kill);
  }
}

/** Once the client wants no more, output is dropped, as if to /dev/null. */
async function pump(source: InputStream | undefined, sink: StreamSink | undefined): Promise<void> {
  if (source === undefined) return;
  for (let chunk = await source.read(); chunk !== undefined; chunk = await source.read()) await sink?.write(chunk);
}

async function feed({ stdin: target }: ExecProcess, { stdin: source }: RemoteStreams): Promise<void> {
  if (source === undefined || target === undefined) return;
  for (let chunk = await source.read(); chunk !== undefined; chunk = await source.read()) {
    if (await target.write(chunk)) continue;
    // Nobody reads it any more; but the client must get rid of it.
    source.ignoreInput();
    return;
  }
  target.end();
}

/** As a gRPC error prints in Go, which is what CRI-O's own look-ups give here. */
export function grpcText(error: unknown): string {
  const text = messageOf(error);
  return kindOf(error) === 'not-found' ? `rpc error: code = NotFound desc = ${text}` : text;
}
