import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { test } from 'node:test';
import { copyBothWays } from './port-forward.ts';
import type { ForwardedStream } from './port-forward.ts';

/** A connection to a pod that says something, and ends when it is told to. */
async function openPod(world: AsyncDisposableStack): Promise<{ readonly target: Socket; readonly pod: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  world.defer(() => void server.close());
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const target = connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true });
  const [pod] = (await accepted) as [Socket];
  world.defer(() => void pod.destroy());
  return { target, pod };
}

interface Client extends ForwardedStream {
  readonly taken: string[];
  isEnded: boolean;
}

function createClient(gone: Promise<unknown>): Client {
  const taken: string[] = [];
  return {
    taken,
    isEnded: false,
    canHalfClose: true,
    gone,
    read: () => gone.then(() => undefined),
    write(data) {
      taken.push(Buffer.from(data).toString());
      return Promise.resolve(true);
    },
    end() {
      this.isEnded = true;
    },
  };
}

const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

test('a connection whose client has gone leaves no timer', async () => {
  await using world = new AsyncDisposableStack();
  const { target, pod } = await openPod(world);
  const { promise: gone, resolve: go } = Promise.withResolvers<void>();
  const client = createClient(gone);
  const before = timers();
  const copied = copyBothWays(client, target);
  pod.write('hello');
  while (client.taken.length === 0) await new Promise(setImmediate);
  go();
  await copied;
  await once(pod.resume(), 'end');
  await new Promise(setImmediate);
  assert.deepEqual([client.taken, client.isEnded, timers() - before], [['hello'], false, 0]);
});

test('what the pod says until it ends is passed on, and then its end', async () => {
  await using world = new AsyncDisposableStack();
  const { target, pod } = await openPod(world);
  const { promise: gone, resolve: go } = Promise.withResolvers<void>();
  const client = createClient(gone);
  const copied = copyBothWays(client, target);
  pod.end('the last words');
  while (!client.isEnded) await new Promise(setImmediate);
  assert.equal(client.taken.join(''), 'the last words');
  go();
  await copied;
});
