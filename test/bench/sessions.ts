import { setTimeout as sleep } from 'node:timers/promises';
import { dialSpdy, openRemoteCommand, type SpdyClient } from '../../src/stream/testing/spdy-client.ts';
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
const linePauseMs = 300;
const patienceMs = 60_000;

/** Clients of one container's input and output, each of which has got a line. */
export async function attachCost(daemon: Daemon, pod: Pod, count: number): Promise<SessionCost> {
  const { client } = daemon;
  const containerId = await runContainer(client, pod, { name: 'cat', command: ['cat'], config: { stdin: true } });
  return costOf(daemon, count, async (sessions, wanted) => {
    const opened = await inTurn(wanted, async () => {
      const { url } = await client.runtime.attach({ containerId, stdin: true, stdout: true, stderr: true });
      const session = await openRemoteCommand(url, ['stdin', 'stdout', 'stderr']);
      sessions.push(session.client);
      return session;
    });
    // Who is not connected with the container yet, which no answer tells, gets a later line.
    await waitFor('a line at all clients', patienceMs, async () => {
      opened[0]?.stdin?.send(line);
      await sleep(linePauseMs);
      return opened.every(({ stdout }) => (stdout?.received ?? 0) > 0) || undefined;
    });
  });
}

/** Clients with one connection each to a server in the pod, over which a line has gone there and back. */
export async function portForwardCost(daemon: Daemon, pod: Pod, count: number): Promise<SessionCost> {
  const { client } = daemon;
  await runContainer(client, pod, { name: 'echo', command: ['nc', '-ll', '-p', '8000', '-e', 'cat'] });
  return costOf(daemon, count, async (sessions, wanted) => {
    await inTurn(wanted, async () => {
      const { url } = await client.runtime.portForward({ podSandboxId: pod.id, port: [] });
      const session = (await dialSpdy(url, ['portforward.k8s.io'])).client;
      sessions.push(session);
      const error = session.open({ streamtype: 'error', port: '8000', requestid: '0' });
      error.end();
      const data = session.open({ streamtype: 'data', port: '8000', requestid: '0' });
      await data.replied;
      data.send(line);
      await waitFor('the echo', patienceMs, () => data.received === line.length || undefined);
    });
  });
}

async function costOf(
  daemon: Daemon,
  count: number,
  open: (sessions: SpdyClient[], wanted: number) => Promise<void>,
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

async function openAndClose(daemon: Daemon, open: (sessions: SpdyClient[]) => Promise<void>): Promise<void> {
  const { fds } = await footprintOf(daemon);
  const sessions: SpdyClient[] = [];
  try {
    await open(sessions);
  } finally {
    for (const session of sessions) session.transport.destroy();
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
