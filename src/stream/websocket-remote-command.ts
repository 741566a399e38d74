import { Channels } from './channels.ts';
import {
  settle,
  statusJson,
  statusText,
  TerminalSizes,
  type RemoteCommandOptions,
  type RemoteHandler,
  type StreamSink,
} from './remote-command.ts';
import type { ServedSocket } from './websocket.ts';

const stdinChannel = 0;
const stdoutChannel = 1;
const stderrChannel = 2;
const errorChannel = 3;
const resizeChannel = 4;

interface Version {
  readonly base64: boolean;
  readonly hasJsonStatus: boolean;
  readonly canHalfClose: boolean;
}

/** By sub-protocol; none means the first version. */
export const webSocketVersions: ReadonlyMap<string, Version> = new Map([
  ['v5.channel.k8s.io', { base64: false, hasJsonStatus: true, canHalfClose: true }],
  ['v4.channel.k8s.io', { base64: false, hasJsonStatus: true, canHalfClose: false }],
  ['v4.base64.channel.k8s.io', { base64: true, hasJsonStatus: true, canHalfClose: false }],
  ['channel.k8s.io', { base64: false, hasJsonStatus: false, canHalfClose: false }],
  ['base64.channel.k8s.io', { base64: true, hasJsonStatus: false, canHalfClose: false }],
]);
const firstVersion: Version = { base64: false, hasJsonStatus: false, canHalfClose: false };

/** Serves one exec or attach session over a WebSocket; resolves when it is over. There is no set-up: it starts at once. */
export async function serveWebSocketRemoteCommand(session: {
  readonly socket: ServedSocket;
  readonly protocol: string;
  readonly options: RemoteCommandOptions;
  readonly traffic: () => number;
  readonly idleTimeoutMs: number;
  readonly handle: RemoteHandler;
}): Promise<void> {
  const { options, traffic, idleTimeoutMs, handle } = session;
  const version = webSocketVersions.get(session.protocol) ?? firstVersion;
  const channels = new Channels(session.socket, {
    base64: version.base64,
    canHalfClose: version.canHalfClose,
    idleTimeoutMs,
    traffic,
    inputs: [...(options.stdin ? [stdinChannel] : []), resizeChannel],
  });
  const sink = (channel: number): StreamSink => ({ write: (data) => channels.send(channel, data) });
  const stdout = options.stdout ? sink(stdoutChannel) : undefined;
  const stderr = options.stderr && !options.tty ? sink(stderrChannel) : undefined;
  // Clients wait for a first message before they take the session for open.
  await channels.send(firstOutput(options), new Uint8Array());
  const sizes = new TerminalSizes();
  void sizes.readFrom(channels.input(resizeChannel));
  const stdin = channels.input(stdinChannel);
  const result = await settle(handle({ stdin, stdout, stderr, sizes, closed: channels.closed }));
  const status = version.hasJsonStatus ? statusJson(result) : statusText(result);
  if (status !== '') void channels.send(errorChannel, Buffer.from(status));
  channels.end();
}

function firstOutput({ stdout, stderr, tty }: RemoteCommandOptions): number {
  if (stdout) return stdoutChannel;
  return stderr && !tty ? stderrChannel : errorChannel;
}
