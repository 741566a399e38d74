import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from '../base/log.ts';
import { copyBothWays, forwardErrorText } from './port-forward.ts';
import { SpdyConnection } from './spdy/connection.ts';
import type { Headers } from './spdy/header-block.ts';
import type { SpdyStream } from './spdy/stream.ts';
import { whenAborted } from './when-aborted.ts';

export const portForwardProtocol = 'portforward.k8s.io';

/** Time for the other stream of a pair. */
const pairLimitMs = 30_000;

export interface SpdyPortForward {
  readonly transport: Duplex;
  readonly podId: string;
  readonly traffic: () => number;
  readonly idleTimeoutMs: number;
  readonly dial: (port: number) => Promise<Socket>;
  readonly log: Logger;
}

/** An error and a data stream with the same request id: one forwarded connection. */
interface Pair {
  error?: SpdyStream;
  data?: SpdyStream;
  timer?: NodeJS.Timeout;
}

/** Serves connections to ports of one pod until the client goes; resolves then. */
export async function serveSpdyPortForward(session: SpdyPortForward): Promise<void> {
  const { log } = session;
  const pairs = new Map<string, Pair>();
  const connection = new SpdyConnection({
    transport: session.transport,
    traffic: session.traffic,
    idleTimeoutMs: session.idleTimeoutMs,
    accept(headers) {
      const problem = problemOf(headers);
      if (problem !== undefined) log.debug(() => `refuse a port-forward stream: ${problem}`);
      return problem === undefined;
    },
    onStream: (stream) => addStream(stream, pairs, session),
  });
  await whenAborted(connection.closed);
  for (const { timer } of pairs.values()) clearTimeout(timer);
}

/** Pure. The texts are the Go server's. */
export function problemOf(headers: Headers): string | undefined {
  const port = headers.get('port') ?? '';
  if (port === '') return '"port" header is required';
  const number = /^[+]?\d{1,9}$/.test(port) ? Number(port) : NaN;
  if (Number.isNaN(number) || number > 65535) return `unable to parse "${port}" as a port`;
  if (number === 0) return `port "${port}" must be > 0`;
  const type = headers.get('streamtype') ?? '';
  if (type === '') return '"streamType" header is required';
  return type === 'error' || type === 'data' ? undefined : `invalid stream type "${type}"`;
}

function addStream(stream: SpdyStream, pairs: Map<string, Pair>, session: SpdyPortForward): void {
  const type = stream.headers.get('streamtype') === 'data' ? 'data' : 'error';
  const id = requestId(stream, type);
  const pair = pairs.get(id) ?? {};
  const { error } = pair;
  if (pair[type] !== undefined) {
    fail(error ?? stream, `error processing stream for request ${id}: ${type} stream already assigned`);
    stream.reset();
    return;
  }
  pair[type] = stream;
  if (pair.error === undefined || pair.data === undefined) {
    pairs.set(id, pair);
    pair.timer = setTimeout(() => giveUp(id, pairs), pairLimitMs);
    void stream.gone.then(() => forget(id, pair, pairs));
    return;
  }
  forget(id, pair, pairs);
  void forward(pair.error, pair.data, session);
}

/** Old clients send none: their data stream follows its error stream. */
function requestId(stream: SpdyStream, type: 'error' | 'data'): string {
  return stream.headers.get('requestid') || String(type === 'error' ? stream.id : stream.id - 2);
}

function forget(id: string, pair: Pair, pairs: Map<string, Pair>): void {
  clearTimeout(pair.timer);
  if (pairs.get(id) === pair) pairs.delete(id);
}

function giveUp(id: string, pairs: Map<string, Pair>): void {
  const pair = pairs.get(id);
  pairs.delete(id);
  if (pair?.error !== undefined) fail(pair.error, `(request=${id}) timed out waiting for streams`);
  pair?.data?.reset();
}

function fail(stream: SpdyStream, text: string): void {
  void stream.write(Buffer.from(text));
  stream.end();
}

async function forward(error: SpdyStream, data: SpdyStream, session: SpdyPortForward): Promise<void> {
  const port = Number(data.headers.get('port'));
  error.ignoreInput();
  let target: Socket;
  try {
    target = await session.dial(port);
  } catch (cause) {
    fail(error, forwardErrorText(session.podId, port, cause));
    // Other connections of this client must not wait for what nobody will read.
    data.reset();
    return;
  }
  await copyBothWays(
    {
      read: () => data.read(),
      write: (bytes) => data.write(bytes),
      end() {
        data.end();
        // Clients wait for this end before they give up their own side.
        error.end();
      },
      canHalfClose: true,
      gone: data.gone,
    },
    target,
  );
  error.end();
  data.reset();
}
