import type { Call } from '../base/call.ts';
import { CrioError, wrap } from '../base/errors.ts';
import { nextTurn } from '../base/next-turn.ts';
import type { Container } from '../container/container.ts';
import type { Attachment } from '../runtime/runtime.ts';
import { grpcText, type ExecDeps } from './exec.ts';
import type { RemoteCommandOptions, RemoteResult, RemoteStreams, StreamSink } from './remote-command.ts';

export interface AttachRequest extends RemoteCommandOptions {
  readonly containerId: string;
}

/**
 * Output that a client has not taken yet. The container must never wait for a client, so one that falls behind so far is
 * disconnected; it finds everything in the log.
 */
const maxBehindBytes = 4 << 20;
/** What a packet takes besides its bytes while it waits: a container may print them one by one. */
const packetOverhead = 1024;
/** Packets in a row, after which others get their turn. */
const packetsPerTurn = 32;

/** Connects the client with the container's own input and output until either ends. */
export async function runAttach(
  call: Call,
  deps: ExecDeps,
  request: AttachRequest,
  streams: RemoteStreams,
): Promise<RemoteResult> {
  try {
    const container = deps.requireExecutable(request.containerId);
    using attachment = await connect(call, deps, container);
    const onClosed = () => attachment[Symbol.dispose]();
    streams.closed.addEventListener('abort', onClosed, { once: true });
    if (streams.closed.aborted) onClosed();
    using _sizes = streams.sizes.follow((size) => container.terminal && attachment.resize(size));
    try {
      await Promise.race([
        copyOutput(attachment, request.containerId, streams),
        copyInput(attachment, container, streams).then((isDone) => (isDone ? undefined : never)),
      ]);
      return { kind: 'exit', code: 0 };
    } finally {
      streams.closed.removeEventListener('abort', onClosed);
    }
  } catch (error) {
    return { kind: 'failure', message: `error attaching to container: ${grpcText(error)}` };
  }
}

const never = new Promise<never>(() => {});

async function connect(call: Call, { runtimeOf }: ExecDeps, container: Container): Promise<Attachment> {
  try {
    return await runtimeOf(container).attach(call, { id: container.id, bundle: container.bundle });
  } catch (error) {
    throw wrap(`failed to connect to container ${container.id}`, error);
  }
}

/** Resolves at the end of the output; throws resource-exhausted when the client is too far behind. */
export async function copyOutput(
  attachment: Attachment,
  containerId: string,
  { stdout, stderr }: Pick<RemoteStreams, 'stdout' | 'stderr'>,
): Promise<void> {
  const behind = new Backlog();
  for (let count = 1; ; count++) {
    const packet = await attachment.receive();
    if (packet === undefined) break;
    behind.push(packet.stream === 'stdout' ? stdout : stderr, packet.data);
    if (behind.bytes > maxBehindBytes) {
      throw new CrioError('resource-exhausted', `container ${containerId} prints faster than the client reads`);
    }
    if (count % packetsPerTurn === 0) await nextTurn();
  }
  await behind.empty();
}

/** Writes without waiting, and knows how much has not been taken. */
class Backlog {
  bytes = 0;
  #last: Promise<unknown> = Promise.resolve();

  push(sink: StreamSink | undefined, data: Uint8Array): void {
    if (sink === undefined) return;
    const bytes = data.length + packetOverhead;
    this.bytes += bytes;
    this.#last = sink.write(data).finally(() => (this.bytes -= bytes));
  }

  async empty(): Promise<void> {
    await this.#last;
  }
}

/** True when the session ends with the client's input. */
async function copyInput(attachment: Attachment, container: Container, streams: RemoteStreams): Promise<boolean> {
  const source = streams.stdin;
  if (source === undefined) return false;
  // conmon stops reading a client that sends input to a container without.
  if (!container.stdin) {
    source.ignoreInput();
    return false;
  }
  const keys = new DetachKeys(container.terminal);
  for (let chunk = await source.read(); chunk !== undefined; chunk = await source.read()) {
    const data = keys.filter(chunk);
    if (data === 'detach') return true;
    if (data.length === 0 || (await attachment.send(data))) continue;
    source.ignoreInput();
    return false;
  }
  if (streams.closed.aborted) return true;
  // For the container the input ends only if it is meant to end with its first client.
  if (container.stdinOnce) attachment.endInput();
  return !container.stdinOnce && !container.terminal;
}

const ctrlP = 0x10;
const ctrlQ = 0x11;

/** Looks for ctrl-p ctrl-q, each of which a person's keyboard sends alone. */
export class DetachKeys {
  readonly #isActive: boolean;
  #isHeld = false;

  constructor(isActive: boolean) {
    this.#isActive = isActive;
  }

  /** What is to be passed on; a ctrl-p is held back until the next key is known. */
  filter(chunk: Buffer): Buffer | 'detach' {
    if (!this.#isActive) return chunk;
    const key = chunk.length === 1 ? chunk[0] : undefined;
    const wasHeld = this.#isHeld;
    if (wasHeld && key === ctrlQ) return 'detach';
    this.#isHeld = key === ctrlP;
    const passed = this.#isHeld ? Buffer.alloc(0) : chunk;
    return wasHeld ? Buffer.concat([Buffer.of(ctrlP), passed]) : passed;
  }
}
