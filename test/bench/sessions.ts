import { setTimeout as sleep } from 'node:timers/promises';
import { dialSpdy, openRemoteCommand, SpdyClient, type ClientStream } from '../../src/stream/testing/spdy-client.ts';
import { openChannels, openTunnel, type ChannelClient } from '../../src/stream/testing/websocket-client.ts';
import { runContainer, waitFor, type Pod } from '../client/pods.ts';
import type { Daemon } from '../run/daemon.ts';
import { footprintOf, type Footprint } from './footprint.ts';
import { round2 } from './statistics.ts';

export interface SessionCost {
  readonly sessions: number;
  /** Resident memory of the daemon without its program's file, for each session. */
  readonly kib: number;
  readonly fdsEach: number;
  /** After all have ended, against the time before. */
  readonly fdGrowth: number;
}

const openAtOnce = 10;
const warmUpSessions = 20;
const line = 'hello\n';
const echoPort = 8000;
/** Channels of a port-forward begin with their port. */
const portBytes = 2;
const linePauseMs = 300;
const patienceMs = 60_000;

/** An open session: how much output it has got, how to send to it, and to cut it. */
interface OpenSession {
  received(): number;
  send(data: string): void;
  end(): void;
}

const attachWays: Readonly<Record<string, (url: string) => Promise<OpenSession>>> = {
  SPDY: async (url) => {
    const { client, stdin, stdout } = await openRemoteCommand(url, ['stdin', 'stdout', 'stderr']);
    return spdySession(client, stdin, stdout);
  },
  WebSocket: async (url) => channelSession(await openChannels(url, 'v5.channel.k8s.io'), 1),
};

const forwardWays: Readonly<Record<string, (url: string) => Promise<OpenSession>>> = {
  SPDY: async (url) => openPair((await dialSpdy(url, ['portforward.k8s.io'])).client),
  tunnel: async (url) => openPair(new SpdyClient(await openTunnel(url, 'SPDY/3.1+portforward.k8s.io'))),
  channels: async (url) => channelSession(await openChannels(url, 'v4.channel.k8s.io'), 0),
};

function spdySession(client: SpdyClient, input?: ClientStream, output?: ClientStream): OpenSession {
  return {
    received: () => output?.received ?? 0,
    send: (data) => input?.send(data),
    end: () => client.transport.destroy(),
  };
}

function channelSession(client: ChannelClient, output: number): OpenSession {
  return {
    received: () => client.bytes(output).length - (output === 0 ? portBytes : 0),
    send: (data) => client.send(0, data),
    end: () => client.socket.terminate(),
  };
}

async function openPair(client: SpdyClient): Promise<OpenSession> {
  const error = client.open({ streamtype: 'error', port: String(echoPort), requestid: '0' });
  error.end();
  const data = client.open({ streamtype: 'data', port: String(echoPort), requestid: '0' });
  await data.replied;
  return spdySession(client, data, data);
}

/** Clients of one container's input and output, each of which has got a line; by transport. */
export async function attachCosts(daemon: Daemon, pod: Pod, count: number): Promise<Record<string, SessionCost>> {
  const { client } = daemon;
  const containerId = await runContainer(client, pod, { name: 'cat', command: ['cat'], config: { stdin: true } });
  return costsOf(daemon, attachWays, (openOne) =>
    costOf(daemon, count, async (sessions, wanted) => {
      const opened = await inTurn(wanted, async () => {
        const { url } = await client.runtime.attach({ containerId, stdin: true, stdout: true, stderr: true });
        const session = await openOne(url);
        sessions.push(session);
        return session;
      });
      // Who is not connected with the container yet, which no answer tells, gets a later line.
      await waitFor('a line at all clients', patienceMs, async () => {
        opened[0]?.send(line);
        await sleep(linePauseMs);
        return opened.every((session) => session.received() > 0) || undefined;
      });
    }),
  );
}

/** Clients with one connection each to a server in the pod, over which a line has gone there and back; by transport. */
export async function portForwardCosts(daemon: Daemon, pod: Pod, count: number): Promise<Record<string, SessionCost>> {
  const { client } = daemon;
  await runContainer(client, pod, { name: 'echo', command: ['nc', '-ll', '-p', String(echoPort), '-e', 'cat'] });
  return costsOf(daemon, forwardWays, (openOne) =>
    costOf(daemon, count, async (sessions, wanted) => {
      await inTurn(wanted, async () => {
        const { url } = await client.runtime.portForward({ podSandboxId: pod.id, port: [echoPort] });
        const session = await openOne(url);
        sessions.push(session);
        session.send(line);
        await waitFor('the echo', patienceMs, () => session.received() === line.length || undefined);
      });
    }),
  );
}

type OpenOne = (url: string) => Promise<OpenSession>;

async function costsOf(
  daemon: Daemon,
  ways: Readonly<Record<string, OpenOne>>,
  measure: (openOne: OpenOne) => Promise<SessionCost>,
): Promise<Record<string, SessionCost>> {
  const costs: Record<string, SessionCost> = {};
  for (const [way, openOne] of Object.entries(ways)) {
    // What the sessions before have left free would hide what these take.
    await daemon.restart('SIGTERM');
    costs[way] = await measure(openOne);
  }
  return costs;
}

async function costOf(
  daemon: Daemon,
  count: number,
  open: (sessions: OpenSession[], wanted: number) => Promise<void>,
): Promise<SessionCost> {
  // A few first bring the code into memory; as many as later would make room for all of them.
  await openAndClose(daemon, (sessions) => open(sessions, warmUpSessions));
  const before = await footprintOf(daemon);
  let during: Footprint | undefined;
  await openAndClose(daemon, async (sessions) => {
    await open(sessions, count);
    during = await footprintOf(daemon);
  });
  const after = await footprintOf(daemon);
  if (during === undefined) throw new Error('measure sessions: none were open');
  return {
    sessions: count,
    kib: round2(((during.anonymousMiB - before.anonymousMiB) * 1024) / count),
    fdsEach: round2((during.fds - before.fds) / count),
    fdGrowth: after.fds - before.fds,
  };
}

async function openAndClose(daemon: Daemon, open: (sessions: OpenSession[]) => Promise<void>): Promise<void> {
  const { fds } = await footprintOf(daemon);
  const sessions: OpenSession[] = [];
  try {
    await open(sessions);
  } finally {
    for (const session of sessions) session.end();
  }
  await waitFor('the end of all sessions', patienceMs, async () => (await footprintOf(daemon)).fds <= fds || undefined);
}

async function inTurn<T>(count: number, action: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) results[index] = await action();
  };
  await Promise.all(Array.from({ length: openAtOnce }, worker));
  return results;
}
