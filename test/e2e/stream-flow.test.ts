import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { dialSpdy, openRemoteCommand, SpdyClient, type ClientStream } from '../../src/stream/testing/spdy-client.ts';
import { openChannels, openTunnel } from '../../src/stream/testing/websocket-client.ts';
import { execSync, runContainer, runPod, waitFor, type Pod } from '../client/pods.ts';
import { attachUrl, execUrl, exitStatus, forwardUrl, success } from '../client/sessions.ts';
import { residentKiB, usageOf, waitForUsage } from '../client/usage.ts';
import { useDaemon } from './environment.ts';

/**
 * Nobody's slowness grows the daemon: what one side does not take, the other may not send. The container prints or swallows
 * 30 MB each time while the other side sleeps; then every byte must arrive.
 */
const numbers = 4_000_000;
const totalBytes = 30_888_896;
const maxGrowthKiB = 16 * 1024;
const quietMs = 1500;

let pod: Pod;
let id: string;
const inputs = 30;
// tcp(7): newer kernels let a connection keep 32 MB by themselves, more than all input here. Of this network namespace only.
writeFileSync('/proc/sys/net/ipv4/tcp_rmem', '4096 131072 6291456');
const node = useDaemon({}, async (client) => {
  pod = await runPod(client);
  const servers = [
    `nc -ll -p 8000 -e sh -c 'seq ${numbers}; touch /tmp/sent'`,
    `nc -ll -p 8001 -e sh -c 'while [ ! -e /tmp/go ]; do sleep 0.1; done; sha256sum'`,
    // For clients that cannot end their input.
    `nc -ll -p 8002 -e sh -c 'while [ ! -e /tmp/go ]; do sleep 0.1; done; head -c ${inputs << 20} | sha256sum'`,
  ];
  const command = ['sh', '-c', `${servers.join(' & ')} & sleep 1000`];
  id = await runContainer(client, pod, { name: 'flow', command });
});

const printing = ['sh', '-c', `rm -f /tmp/sent; seq ${numbers}; touch /tmp/sent`];
const swallowing = ['sh', '-c', 'rm -f /tmp/go; while [ ! -e /tmp/go ]; do sleep 0.1; done; sha256sum'];
const input = Buffer.alloc(1 << 20, 'input that nobody reads yet\n');
const inputHash = createHash('sha256');
for (let count = 0; count < inputs; count++) inputHash.update(input);
const swallowed = `${inputHash.digest('hex')}  -\n`;
const printed = createHash('sha256');
for (let number = 1; number <= numbers; number++) printed.update(`${number}\n`);
const printedHash = printed.digest('hex');

const exists = async (path: string) => (await execSync(node.client, id, ['test', '-e', path])).code === 0;
const touch = (path: string) => execSync(node.client, id, ['touch', path]);
const clear = () => execSync(node.client, id, ['rm', '-f', '/tmp/go', '/tmp/sent']);

/** While it runs the daemon must not grow. */
async function flat(work: () => Promise<void>): Promise<void> {
  const before = residentKiB(node.daemon.pid());
  await work();
  const grown = residentKiB(node.daemon.pid()) - before;
  assert.ok(grown < maxGrowthKiB, `the daemon grew by ${grown} KiB`);
}

/** The container is stuck while the client does not read, and everything comes when it does. */
async function readLate(
  start: () => void,
  client: { pause(): void; resume(): void },
  output: () => Promise<Buffer>,
): Promise<void> {
  client.pause();
  start();
  await flat(async () => {
    await sleep(quietMs);
    assert.equal(await exists('/tmp/sent'), false);
  });
  client.resume();
  const bytes = await output();
  const seen = bytes.subarray(bytes.length - totalBytes);
  assert.equal(createHash('sha256').update(seen).digest('hex'), printedHash);
}

/** The client is stuck while the container does not read. */
async function sendLate(send: (data: Buffer) => void, stuck: () => number, hash: () => Promise<string>): Promise<void> {
  await flat(async () => {
    for (let count = 0; count < inputs; count++) send(input);
    await sleep(quietMs);
    assert.ok(stuck() > (inputs << 20) / 3, `only ${stuck()} bytes wait at the client`);
  });
  await touch('/tmp/go');
  assert.equal(await hash(), swallowed);
}

async function bytesOf(stream: ClientStream | undefined): Promise<Buffer> {
  return Buffer.from((await stream?.text) ?? '');
}

describe('exec', () => {
  test('SPDY: a client that stops reading, and one that sends what nobody reads', async () => {
    const out = await openRemoteCommand(await execUrl(node.client, id, printing), ['stdout', 'stderr']);
    await readLate(
      () => {},
      out.client.transport,
      () => bytesOf(out.stdout),
    );
    assert.equal(await out.error.text, success);
    const url = await execUrl(node.client, id, swallowing, { stdin: true });
    const into = await openRemoteCommand(url, ['stdin', 'stdout', 'stderr']);
    await sendLate(
      (data) => into.stdin?.send(data),
      () => into.client.transport.writableLength,
      async () => {
        into.stdin?.end();
        return (await into.stdout?.text) ?? '';
      },
    );
  });

  test('WebSocket: the same', async () => {
    const out = await openChannels(await execUrl(node.client, id, printing), 'v5.channel.k8s.io');
    await readLate(
      () => {},
      out.socket,
      async () => {
        assert.equal(await out.closed, 1000);
        return out.bytes(1);
      },
    );
    const into = await openChannels(await execUrl(node.client, id, swallowing, { stdin: true }), 'v5.channel.k8s.io');
    await sendLate(
      (data) => into.send(0, data),
      () => into.socket.bufferedAmount,
      async () => {
        into.closeChannel(0);
        await into.closed;
        return into.text(1);
      },
    );
  });

  test('with a terminal: a client that stops reading, over both', async () => {
    const tty = { tty: true };
    const spdy = await openRemoteCommand(await execUrl(node.client, id, printing, tty), ['stdout', 'resize']);
    const channels = await openChannels(await execUrl(node.client, id, printing, tty), 'v5.channel.k8s.io');
    const clients = [spdy.client.transport, channels.socket];
    for (const client of clients) client.pause();
    const received = () => [spdy.stdout?.received ?? 0, channels.received];
    const before = received();
    await flat(async () => {
      await sleep(quietMs);
      assert.equal(await exists('/tmp/sent'), false);
    });
    for (const client of clients) client.resume();
    // Beyond what the kernel had.
    const goesOn = () => received().every((count, index) => count > (before[index] ?? 0) + totalBytes / 5) || undefined;
    await waitFor('the rest', 30_000, goesOn);
    spdy.client.transport.destroy();
    channels.socket.terminate();
  });
});

describe('port-forward', () => {
  async function both(client: SpdyClient): Promise<void> {
    const open = async (port: number) => {
      client.open({ streamtype: 'error', port: String(port), requestid: String(port) }).end();
      const data = client.open({ streamtype: 'data', port: String(port), requestid: String(port) });
      await data.replied;
      return data;
    };
    await clear();
    const out = await open(8000);
    await readLate(
      () => {},
      client.transport,
      () => bytesOf(out),
    );
    const into = await open(8001);
    await sendLate(
      (data) => into.send(data),
      () => client.transport.writableLength,
      () => {
        into.end();
        return into.text;
      },
    );
    client.goAway();
    await client.closed;
  }

  test('SPDY: a client that stops reading, and one that sends what nobody reads', async () => {
    await both((await dialSpdy(await forwardUrl(node.client, pod.id), ['portforward.k8s.io'])).client);
  });

  test('SPDY inside a WebSocket: the same', async () => {
    const url = await forwardUrl(node.client, pod.id);
    await both(new SpdyClient(await openTunnel(url, 'SPDY/3.1+portforward.k8s.io')));
  });

  for (const protocol of ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io']) {
    test(`channels of a WebSocket, ${protocol}: what nobody in the pod reads waits at the client`, async () => {
      await clear();
      const session = await openChannels(await forwardUrl(node.client, pod.id, [8002]), protocol);
      const portBytes = 2;
      await sendLate(
        (data) => session.send(0, data),
        () => session.socket.bufferedAmount,
        async () => {
          await waitFor(
            'the hash',
            20_000,
            () => session.bytes(0).length === portBytes + swallowed.length || undefined,
          );
          return session.bytes(0).subarray(portBytes).toString();
        },
      );
      session.socket.close();
      await session.closed;
    });
  }

  test('channels of a WebSocket: the same', async () => {
    await clear();
    const session = await openChannels(await forwardUrl(node.client, pod.id, [8000]), 'v4.channel.k8s.io');
    await readLate(
      () => {},
      session.socket,
      async () => {
        await waitFor('all bytes', 20_000, () => session.received >= totalBytes + 4 || undefined);
        return session.bytes(0);
      },
    );
    session.socket.close();
  });
});

describe('attach', () => {
  test('a client that falls behind is disconnected with a reason, and costs no more than its buffer; the container goes on', async () => {
    for (const transport of ['spdy', 'websocket']) {
      const command = ['sh', '-c', `read line; seq ${numbers}; touch /tmp/done; sleep 1000`];
      const config = { stdin: true };
      const container = await runContainer(node.client, pod, { name: transport, command, config });
      const url = await attachUrl(node.client, container);
      const client = transport === 'spdy' ? await openSpdy(url) : await openWebSocket(url);
      client.typeLine();
      client.socket.pause();
      await flat(async () => {
        await waitFor(
          'the whole output',
          30_000,
          async () => (await execSync(node.client, container, ['test', '-e', '/tmp/done'])).code === 0 || undefined,
        );
      });
      client.socket.resume();
      assert.match(await client.status(), /error attaching to container: .*prints faster than the client reads/);
    }
  });

  test('packets of one byte fill that buffer too: the client is gone long before it is megabytes behind', async () => {
    const command = ['sh', '-c', 'read line; while :; do printf x; done'];
    const container = await runContainer(node.client, pod, { name: 'tiny', command, config: { stdin: true } });
    const session = await openRemoteCommand(await attachUrl(node.client, container), ['stdin', 'stdout', 'stderr']);
    const sockets = () => usageOf(node.daemon.pid()).descriptors['socket'] ?? 0;
    const whileAttached = sockets();
    session.client.transport.pause();
    session.stdin?.send('\n');
    await flat(async () => {
      await waitFor('the end of the attachment', 60_000, () => sockets() < whileAttached || undefined);
    });
    session.client.transport.resume();
    assert.match(await session.error.text, /error attaching to container: .*prints faster than the client reads/);
    const { received = 0 } = session.stdout ?? {};
    // Of what it receives now most was with the kernel.
    assert.ok(received > 0 && received < 4 << 20, `${received} bytes`);
    await node.client.runtime.stopContainer({ containerId: container, timeout: 0n });
  });

  async function openSpdy(url: string) {
    const session = await openRemoteCommand(url, ['stdin', 'stdout', 'stderr']);
    return {
      socket: session.client.transport,
      typeLine: () => session.stdin?.send('\n'),
      status: () => session.error.text,
    };
  }

  async function openWebSocket(url: string) {
    const session = await openChannels(url, 'v5.channel.k8s.io');
    const status = async () => {
      await session.closed;
      return session.text(3);
    };
    return { socket: session.socket, typeLine: () => session.send(0, '\n'), status };
  }

  test('input that the container does not read waits at the client, and arrives whole', async () => {
    const config = { stdin: true, stdinOnce: true };
    const container = await runContainer(node.client, pod, { name: 'late', command: swallowing, config });
    const session = await openRemoteCommand(await attachUrl(node.client, container), ['stdin', 'stdout', 'stderr']);
    await flat(async () => {
      for (let count = 0; count < inputs; count++) session.stdin?.send(input);
      await sleep(quietMs);
      assert.ok(session.client.transport.writableLength > (inputs << 20) / 3);
    });
    await execSync(node.client, container, ['touch', '/tmp/go']);
    session.stdin?.end();
    assert.equal(await session.stdout?.text, swallowed);
  });
});

describe('a slow client', () => {
  const quietOfPingersMs = 15_000;
  const manyBytes = 1_000_000;
  const failing = ['sh', '-c', `head -c ${manyBytes} /dev/zero; exit 7`];

  test('that reads on after 15 s gets all output and the exit code of a command that ended long before', async () => {
    const before = usageOf(node.daemon.pid());
    const [spdy, silent, channels] = await Promise.all([
      openRemoteCommand(await execUrl(node.client, id, failing), ['stdout', 'stderr']),
      openRemoteCommand(await execUrl(node.client, id, failing), ['stdout', 'stderr']),
      openChannels(await execUrl(node.client, id, failing), 'v5.channel.k8s.io'),
    ]);
    spdy.client.transport.pause();
    silent.client.transport.pause();
    channels.socket.pause();
    const pings = setInterval(() => {
      spdy.client.ping(1);
      channels.socket.ping();
    }, 1000);
    await sleep(quietOfPingersMs);
    clearInterval(pings);
    spdy.client.transport.resume();
    channels.socket.resume();
    assert.equal((await bytesOf(spdy.stdout)).length, manyBytes);
    assert.equal(await spdy.error.text, exitStatus(7));
    assert.equal(await channels.closed, 1000);
    assert.equal(channels.bytes(1).length, manyBytes);
    assert.equal(channels.text(3), exitStatus(7));
    // The one that did not even say that it is there has been given up.
    await waitForUsage(node.daemon.pid(), before);
    silent.client.transport.destroy();
  });
});
