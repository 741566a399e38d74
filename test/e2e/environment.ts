import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import type { CriClient } from '../client/client.ts';
import { serviceError } from '../client/client.ts';
import { ensureImage, removeAllPods } from '../client/pods.ts';
import { busybox } from '../client/pods.ts';
import { startDaemon, type Daemon, type DaemonOptions } from '../run/daemon.ts';
import { assertNothingLeft } from '../run/inside-world.ts';

/**
 * One daemon for the tests of a file. After them all pods are removed and it is checked that nothing of them is left.
 * The getter throws before the tests have begun.
 */
export function useDaemon(
  options: DaemonOptions = {},
  prepare: (client: CriClient) => Promise<void> = async () => undefined,
): { readonly daemon: Daemon; readonly client: CriClient } {
  let daemon: Daemon | undefined;
  before(async () => {
    daemon = await startDaemon(options);
    await ensureImage(daemon.client, busybox);
    await prepare(daemon.client);
  });
  after(async () => {
    if (daemon === undefined) return;
    await using running = daemon; // ends with the block, whatever fails in it
    await removeAllPods(running.client);
    await assertNothingLeft();
  });
  const running = (): Daemon => {
    if (daemon === undefined) throw new Error('use the daemon: not started yet');
    return daemon;
  };
  return {
    get daemon() {
      return running();
    },
    get client() {
      return running().client;
    },
  };
}

/** Both runtimes, for tests that hold for either. */
export const handlers = ['crun', 'runc'] as const;

/** Awaits a call that must fail and returns its gRPC status. */
export async function failureOf(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  let answer: unknown;
  try {
    answer = await call;
  } catch (error) {
    const { code, details } = serviceError(error);
    return { code, details };
  }
  return assert.fail(
    `the call must fail, it answered ${JSON.stringify(answer, (_, value: unknown) => (typeof value === 'bigint' ? Number(value) : value))}`,
  );
}
