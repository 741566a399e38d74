import type { Duplex } from 'node:stream';
import { SpdyConnection } from './spdy/connection.ts';
import type { SpdyStream } from './spdy/stream.ts';
import {
  settle,
  statusJson,
  statusText,
  TerminalSizes,
  type RemoteCommandOptions,
  type RemoteHandler,
} from './remote-command.ts';

/** Sub-protocols of exec and attach over SPDY; version 5 is version 4 there, and not offered. */
export const remoteCommandProtocols = [
  'v4.channel.k8s.io',
  'v3.channel.k8s.io',
  'v2.channel.k8s.io',
  'channel.k8s.io',
] as const;
export type RemoteCommandProtocol = (typeof remoteCommandProtocols)[number];

/** Time for the client to open all its streams. */
const openLimitMs = 30_000;
/** Unknown ones are answered and left alone, but only so many. */
const maxStreams = 16;

export interface SpdyRemoteCommand {
  readonly transport: Duplex;
  readonly protocol: RemoteCommandProtocol;
  readonly options: RemoteCommandOptions;
  readonly traffic: () => number;
  readonly idleTimeoutMs: number;
  readonly handle: RemoteHandler;
}

/** Serves one session on a connection that has been upgraded; resolves when it is over. */
export async function serveSpdyRemoteCommand(session: SpdyRemoteCommand): Promise<void> {
  const { protocol, handle } = session;
  const { connection, streams, complete } = openConnection(session);
  if (!(await inTime(complete, connection.closed))) {
    connection.end();
    return;
  }
  const [error, stdin, stdout, stderr] = ['error', 'stdin', 'stdout', 'stderr'].map((type) => streams.get(type));
  for (const output of [error, stdout, stderr]) output?.ignoreInput();
  if (protocol === 'channel.k8s.io') {
    // Clients of version 1 expect just that.
    stdin?.end();
    error?.reset();
  }
  const sizes = new TerminalSizes();
  void sizes.readFrom(streams.get('resize'));
  const result = await settle(handle({ stdin, stdout, stderr, sizes, closed: connection.closed }));
  stdin?.ignoreInput();
  stdout?.end();
  stderr?.end();
  const status = protocol === 'v4.channel.k8s.io' ? statusJson(result) : statusText(result);
  if (status !== '') void error?.write(Buffer.from(status));
  error?.end();
  connection.end();
}

/** `complete` resolves when the client has opened all streams that the session needs. */
function openConnection(session: SpdyRemoteCommand): {
  readonly connection: SpdyConnection;
  readonly streams: ReadonlyMap<string, SpdyStream>;
  readonly complete: Promise<void>;
} {
  const { transport, traffic, idleTimeoutMs } = session;
  const wanted = wantedStreams(session);
  const streams = new Map<string, SpdyStream>();
  const { promise: complete, resolve: isComplete } = Promise.withResolvers<void>();
  let opened = 0;
  const connection = new SpdyConnection({
    transport,
    traffic,
    idleTimeoutMs,
    accept: () => ++opened <= maxStreams,
    onStream(stream) {
      const type = stream.headers.get('streamtype') ?? '';
      if (!wanted.has(type) || streams.has(type)) {
        stream.ignoreInput();
        return;
      }
      streams.set(type, stream);
      if (streams.size === wanted.size) isComplete();
    },
  });
  return { connection, streams, complete };
}

function wantedStreams({ options, protocol }: SpdyRemoteCommand): Set<string> {
  const { stdin, stdout, stderr, tty } = options;
  const wanted = new Set(['error']);
  if (stdin) wanted.add('stdin');
  if (stdout) wanted.add('stdout');
  if (stderr && !tty) wanted.add('stderr');
  if (tty && (protocol === 'v4.channel.k8s.io' || protocol === 'v3.channel.k8s.io')) wanted.add('resize');
  return wanted;
}

/** False when the time is over or the client has gone. */
export function inTime(complete: Promise<void>, closed: AbortSignal, limitMs = openLimitMs): Promise<boolean> {
  return new Promise((resolve) => {
    const done = (isComplete: boolean) => {
      clearTimeout(timer);
      closed.removeEventListener('abort', giveUp);
      resolve(isComplete);
    };
    const giveUp = () => done(false);
    const timer = setTimeout(giveUp, limitMs);
    closed.addEventListener('abort', giveUp, { once: true });
    void complete.then(() => done(true));
    if (closed.aborted) giveUp();
  });
}
