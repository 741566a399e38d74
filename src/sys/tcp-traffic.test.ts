import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { tcpTraffic } from './tcp-traffic.ts';

test('tcpTraffic grows with what comes and with what the other side takes, and stands still with what waits', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const near = connect(address.port, '127.0.0.1');
  const [far] = (await once(server, 'connection')) as [Socket];
  const start = tcpTraffic(far);
  near.write('12345');
  await once(far.resume(), 'data');
  assert.equal(tcpTraffic(far) - start, 5);
  far.write('123');
  await once(near.pause(), 'readable');
  await settled(far);
  assert.equal(tcpTraffic(far) - start, 8);
  far.write(Buffer.alloc(64 << 20));
  await settled(far);
  const stuck = tcpTraffic(far);
  assert.ok(far.writableLength > 0);
  near.resume();
  await once(far, 'drain');
  assert.ok(tcpTraffic(far) > stuck);
  far.destroy();
  near.destroy();
  assert.equal(tcpTraffic(far), 0);
  server.close();
});

/** Acknowledgements come a moment after the data. */
async function settled(socket: Socket): Promise<void> {
  for (let last = -1, now = tcpTraffic(socket); now !== last; now = tcpTraffic(socket)) {
    last = now;
    await sleep(20);
  }
}
