import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect as connectTcp, type NetConnectOpts, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { constants, deflateRawSync } from 'node:zlib';
import { dictionary } from '../../src/stream/spdy/dictionary.ts';
import { dataHead, pingFrame, synReplyFrame, synStreamFrame } from '../../src/stream/spdy/frames.ts';
import { zlibHead } from '../../src/stream/spdy/header-block.ts';
import {
  dialSpdy,
  openRemoteCommand,
  serializeHeaders,
  type SpdyClient,
} from '../../src/stream/testing/spdy-client.ts';
import { openChannels } from '../../src/stream/testing/websocket-client.ts';
import { execSync, removePod, runContainer, runPod, waitFor, type Pod } from '../client/pods.ts';
import { attachUrl, execUrl, forwardUrl } from '../client/sessions.ts';
import { usageOf, waitForUsage } from '../client/usage.ts';
import { useDaemon } from './environment.ts';

/** What a heap may grow by in a flood before its garbage is collected; a leak of each test is far more. */
const maxGrowthKiB = 64 * 1024;

let pod: Pod;
let id: string;
let beganMs = 0;
let unusedUrl = '';
let silent: SpdyClient | undefined;
const node = useDaemon({ logLevel: 'info' }, async (client) => {
  pod = await runPod(client);
  // It prints, because conmon only sees at its next output which clients of attach have gone.
  const command = ['sh', '-c', 'while :; do echo tick; sleep 0.5; done'];
  id = await runContainer(client, pod, { name: 'target', command, config: { stdin: true } });
  // For the last test, which needs them old.
  beganMs = Date.now();
  unusedUrl = await execUrl(client, id, ['true']);
  silent = (await dialSpdy(await execUrl(client, id, ['true']), ['v4.channel.k8s.io'])).client;
});

/** The daemon answers, has what it had before and no more, and has not grown. */
async function unharmed(attack: () => Promise<void>, growthKiB = maxGrowthKiB): Promise<void> {
  const pid = node.daemon.pid();
  // Whatever is made once at the first use.
  assert.equal((await execSync(node.client, id, ['true'])).code, 0);
  const before = usageOf(pid);
  await attack();
  assert.equal((await execSync(node.client, id, ['true'])).code, 0);
  const after = await waitForUsage(pid, before);
  const grown = after.residentKiB - before.residentKiB;
  assert.ok(grown < growthKiB, `the daemon grew by ${grown} KiB`);
}

/** Answers of the daemon to somebody else, all the time while `work` goes on. */
async function othersAreServed(work: Promise<unknown>): Promise<void> {
  let isOver = false;
  const ended = work.finally(() => (isOver = true));
  let answers = 0;
  while (!isOver || answers < 3) {
    assert.equal((await node.client.runtime.version({}, { timeoutMs: 20_000 })).runtimeName, 'cri-o');
    answers++;
    await sleep(20);
  }
  await ended;
}

const streamServer = async (): Promise<{ host: string; port: number }> => {
  const { hostname, port } = new URL(await execUrl(node.client, id, ['true']));
  return { host: hostname, port: Number(port) };
};

/** A raw connection that has sent some bytes. */
function attacker(target: NetConnectOpts, bytes: string | Uint8Array = ''): Socket {
  const socket = connectTcp(target);
  socket.on('error', () => {});
  socket.resume();
  if (bytes.length > 0) socket.write(bytes);
  return socket;
}

const closed = (socket: Socket) =>
  new Promise<void>((resolve) => (socket.closed ? resolve() : socket.once('close', resolve)));

test('CVE-2022-23471: floods of sizes for commands that fail leave nothing behind', async () => {
  const sizes = Array.from({ length: 500 }, (_, index) => `{"Width":${index + 1},"Height":24}\n`).join('');
  await unharmed(async () => {
    for (let round = 0; round < 10; round++) {
      const sessions = await Promise.all(
        Array.from({ length: 10 }, async () => {
          const url = await execUrl(node.client, id, ['/no/such/program'], { stdin: true, tty: true });
          const session = await openRemoteCommand(url, ['stdin', 'stdout', 'resize']);
          for (let count = 0; count < 20; count++) session.resize?.send(sizes);
          const status = await session.error.text;
          session.client.transport.destroy();
          return status;
        }),
      );
      for (const status of sessions) assert.match(status, /Internal error occurred: error executing command/);
    }
  });
});

test('CVE-2025-64329: attaches that end badly leave nothing behind, here or at the monitor', async () => {
  const endings: ((session: Awaited<ReturnType<typeof openRemoteCommand>>) => void)[] = [
    ({ client }) => client.transport.destroy(),
    ({ client }) => client.goAway(),
    ({ client, stdin }) => {
      stdin?.send('half a frame');
      client.transport.write(Buffer.of(0x80));
      client.transport.end();
    },
    ({ client, stdout }) => {
      stdout?.reset();
      client.transport.write(Buffer.alloc(16, 0xff));
    },
  ];
  const monitor = Number(
    readFileSync(`/run/containers/storage/overlay-containers/${id}/userdata/conmon-pidfile`, 'utf8'),
  );
  const before = usageOf(monitor);
  await unharmed(async () => {
    for (let count = 0; count < 200; count++) {
      const url = await attachUrl(node.client, id);
      if (count % 3 === 0) {
        const session = await openChannels(url, 'v5.channel.k8s.io');
        if (count % 2 === 0) session.socket.terminate();
        else session.socket.send(Buffer.of(255, 9));
        continue;
      }
      const session = await openRemoteCommand(url, ['stdin', 'stdout', 'stderr']);
      endings[count % endings.length]?.(session);
      await session.client.closed;
      session.client.transport.destroy();
    }
  });
  await waitForUsage(monitor, before);
});

test('clients that never read: their commands wait, and end with them', async () => {
  await unharmed(async () => {
    const sessions = await Promise.all(
      Array.from({ length: 30 }, async () => {
        const session = await openRemoteCommand(await execUrl(node.client, id, ['yes']), ['stdout', 'stderr']);
        session.client.transport.pause();
        return session;
      }),
    );
    await sleep(1000);
    assert.equal((await execSync(node.client, id, ['true'])).code, 0);
    for (const { client } of sessions) client.transport.destroy();
    const running = async () => (await execSync(node.client, id, ['ps', '-o', 'args'])).stdout.includes('yes');
    await waitFor('the end of the commands', 10_000, async () => !(await running()) || undefined);
  });
});

test('10,000 requests at once to the stream server are answered or turned away', async () => {
  const server = await streamServer();
  const upgrade = 'POST /exec/AAAAAAAA HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n';
  await unharmed(async () => {
    let answered = 0;
    const sockets = Array.from({ length: 10_000 }, (_, index) => {
      const socket = attacker(
        server,
        index % 2 === 0 ? upgrade : 'GET /exec/BBBBBBBB HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      );
      socket.once('data', (data) => {
        if (data.toString().startsWith('HTTP/1.1 404 ')) answered++;
      });
      return socket;
    });
    await othersAreServed(Promise.all(sockets.map((socket) => closed(socket))));
    assert.ok(answered > 1000, String(answered));
  });
});

const refusedUpgrades = [
  'POST /exec/AAAAAAAA HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n',
  // A body that does not come.
  'POST /exec/AAAAAAAA HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 9\r\n\r\n',
];

test('refused upgrades cost nothing, whether their clients send more, or stay', async () => {
  const server = await streamServer();
  await unharmed(async () => {
    const talkative = Array.from({ length: 500 }, async (_, index) => {
      const socket = attacker(server, refusedUpgrades[index % 2]);
      await new Promise((resolve) => socket.once('data', resolve));
      socket.end('x');
      await closed(socket);
    });
    await Promise.all(talkative);
  });
  const before = usageOf(node.daemon.pid()).descriptors['socket'] ?? 0;
  const held: Socket[] = [];
  while (held.length < 3000) {
    const wave = Array.from({ length: 250 }, (_, index) =>
      attacker({ ...server, allowHalfOpen: true }, refusedUpgrades[index % 2]),
    );
    held.push(...wave);
    await Promise.all(wave.map((socket) => new Promise((resolve) => socket.once('data', resolve))));
    const open = (usageOf(node.daemon.pid()).descriptors['socket'] ?? 0) - before;
    assert.ok(open <= 2000, `${open} connections`);
  }
  await waitFor(
    'the end of all',
    15_000,
    () => held.every((socket) => socket.destroyed || socket.readableEnded) || undefined,
  );
  for (const socket of held) socket.destroy();
});

test('10,000 connections that say nothing, or no HTTP: the oldest go, and sessions still begin', async () => {
  const server = await streamServer();
  await unharmed(async () => {
    const sockets: Socket[] = [];
    const before = usageOf(node.daemon.pid()).descriptors['socket'] ?? 0;
    const flood = async () => {
      while (sockets.length < 10_000) {
        const wave = Array.from({ length: 250 }, (_, index) =>
          attacker(server, index % 4 === 0 ? '\0\x01 no HTTP\r\n\r\n' : ''),
        );
        sockets.push(...wave);
        await Promise.all(wave.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
        const open = (usageOf(node.daemon.pid()).descriptors['socket'] ?? 0) - before;
        assert.ok(open <= 2500, `${open} connections`);
      }
    };
    await othersAreServed(flood());
    assert.ok(sockets.filter((socket) => socket.closed).length > 4000);
    const session = await openRemoteCommand(await execUrl(node.client, id, ['echo', 'hello']), ['stdout', 'stderr']);
    assert.equal(await session.stdout?.text, 'hello\n');
    session.client.transport.destroy();
    for (const socket of sockets) socket.destroy();
  });
});

test('10,000 requests at once for a URL: a thousand tokens, ResourceExhausted for the rest', async () => {
  await unharmed(async () => {
    const asked = Array.from({ length: 10_000 }, () =>
      node.client.runtime.exec({ containerId: id, cmd: ['true'], stdout: true }),
    );
    const answers = await Promise.allSettled(asked);
    const issued = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value.url] : []));
    assert.ok(issued.length > 900 && issued.length <= 1000, String(issued.length));
    const refused = answers.find((answer) => answer.status === 'rejected');
    assert.match(String(refused?.reason), /8 RESOURCE_EXHAUSTED: .*maximum number of in-flight requests exceeded/);
    // One that is used, even in vain, makes room.
    for (let at = 0; at < issued.length; at += 100) await Promise.all(issued.slice(at, at + 100).map(useUp));
    await execUrl(node.client, id, ['true']);
    // 10,000 calls that run at once take their memory, for as long as they do.
  }, 4 * maxGrowthKiB);
});

function useUp(url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { agent: false }, (response) => {
      response.resume();
      response.once('close', resolve);
    });
    sent.once('error', reject);
    sent.end();
  });
}

test('frames that lie about their length end their session, or wait for the rest without costing it', async () => {
  const control = (type: number, length: number, ...payload: number[]) =>
    Buffer.from([0x80, 3, 0, type, 0, length >> 16, (length >> 8) & 255, length & 255, ...payload]);
  const headers = (count: number, ...lengths: number[]) => {
    const block = Buffer.alloc(4 + lengths.length * 4);
    block.writeUInt32BE(count);
    for (const [index, length] of lengths.entries()) block.writeUInt32BE(length, 4 + index * 4);
    return synStreamFrame(1, compressed(block));
  };
  const lies = [
    control(1, 0xffffff, 0, 0, 0, 1),
    control(1, 4, 0, 0, 0, 1),
    control(6, 8, 0, 0, 0, 1, 0, 0, 0, 1),
    control(7, 0),
    control(3, 3, 0, 0, 0),
    control(99, 8, 0, 0, 0, 0, 0, 0, 0, 0),
    headers(0xffffffff),
    headers(1, 0xffffffff),
    headers(1, 2, 0x61610000),
    Buffer.concat([
      synStreamFrame(1, compressed(serializeHeaders([['streamtype', 'error']]))),
      Buffer.of(0, 0, 0, 0, 0, 0, 0, 1, 0),
    ]),
  ];
  await unharmed(async () => {
    for (const lie of lies) {
      const { client } = await dialSpdy(await execUrl(node.client, id, ['true']), ['v4.channel.k8s.io']);
      client.transport.write(lie);
      await client.closed;
      client.transport.destroy();
    }
    const waiting: SpdyClient[] = [];
    for (const start of [dataHead(1, 0xffffff, true), control(1, 16_000, 0, 0, 0, 1), Buffer.of(0x80, 3, 0)]) {
      for (let count = 0; count < 30; count++) {
        const { client } = await dialSpdy(await forwardUrl(node.client, pod.id), ['portforward.k8s.io']);
        client.transport.write(start);
        waiting.push(client);
      }
    }
    await sleep(200);
    for (const { transport } of waiting) transport.destroy();
  });
});

/** A raw connection that has asked for a WebSocket. */
function beginWebSocket(target: string, protocol: string, options: { allowHalfOpen?: boolean } = {}): Socket {
  const url = new URL(target);
  const head = [
    `GET ${url.pathname} HTTP/1.1`,
    `Host: ${url.host}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Protocol: ${protocol}`,
  ];
  return attacker({ host: url.hostname, port: Number(url.port), ...options }, `${head.join('\r\n')}\r\n\r\n`);
}

test('WebSocket frames that lie end their session', async () => {
  const masked = [0, 0, 0, 0];
  const lies: readonly (readonly number[])[] = [
    [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...masked],
    [0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, ...masked],
    [0x82, 0x03, 0, 1, 2],
    [0xf2, 0x81, ...masked, 0],
    [0x89, 0xfe, 0x10, 0, ...masked],
    [0x83, 0x80, ...masked],
    [0x80, 0x81, ...masked, 0],
    [0x88, 0x81, ...masked, 1],
  ];
  await unharmed(async () => {
    for (const lie of lies) {
      const socket = beginWebSocket(await execUrl(node.client, id, ['cat'], { stdin: true }), 'v5.channel.k8s.io');
      await new Promise((resolve) => socket.once('data', resolve));
      socket.write(Buffer.from(lie));
      await closed(socket);
    }
  });
});

test('WebSocket clients that say goodbye, or end their side and do not read, and then stay keep no session', async () => {
  const goodbye = Buffer.of(0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8);
  const stdin = { stdin: true };
  const ports = await runPod(node.client);
  await runContainer(node.client, ports, { name: 'deaf', command: ['nc', '-ll', '-p', '7000', '-e', 'sleep', '1000'] });
  const sockets: Socket[] = [];
  const begin = async (target: string, protocol: string) => {
    const socket = beginWebSocket(target, protocol, { allowHalfOpen: true });
    await new Promise((resolve) => socket.once('data', resolve));
    sockets.push(socket);
    return socket;
  };
  await unharmed(async () => {
    const leaving = [
      await begin(await execUrl(node.client, id, ['sleep', '777'], stdin), 'v5.channel.k8s.io'),
      await begin(await execUrl(node.client, id, ['yes']), 'v4.channel.k8s.io'),
      await begin(await attachUrl(node.client, id), 'v5.channel.k8s.io'),
      await begin(await forwardUrl(node.client, ports.id, [7000]), 'v4.channel.k8s.io'),
      await begin(await forwardUrl(node.client, ports.id), 'SPDY/3.1+portforward.k8s.io'),
    ];
    for (const socket of leaving) socket.write(goodbye);
    const text = await begin(await forwardUrl(node.client, ports.id), 'SPDY/3.1+portforward.k8s.io');
    text.write(Buffer.of(0x81, 0x81, 0, 0, 0, 0, 0x61));
    const deaf = await begin(await execUrl(node.client, id, ['yes']), 'v5.channel.k8s.io');
    deaf.pause();
    await sleep(300);
    deaf.end();
  });
  for (const socket of sockets) socket.destroy();
  await removePod(node.client, ports.id);
});

function compressed(block: Buffer): Buffer {
  return Buffer.concat([zlibHead, deflateRawSync(block, { dictionary, finishFlush: constants.Z_SYNC_FLUSH })]);
}

test('header bombs end their session after 8 KiB', async () => {
  // 15 KB that would become 15 MB.
  const bomb = synStreamFrame(1, compressed(Buffer.alloc(15 << 20)));
  const many = synStreamFrame(
    1,
    compressed(serializeHeaders(Array.from({ length: 1000 }, (_, index) => [`h${index}`, '']))),
  );
  await unharmed(async () => {
    for (let count = 0; count < 40; count++) {
      const { client } = await dialSpdy(await forwardUrl(node.client, pod.id), ['portforward.k8s.io']);
      client.transport.write(count % 2 === 0 ? bomb : many);
      await client.closed;
      assert.equal(client.frames.length, 0);
      client.transport.destroy();
    }
  });
});

test('headers that no client sends, and streams that come to nothing, end their session', async () => {
  const block = compressed(serializeHeaders([['streamtype', 'error']]));
  const reply = synReplyFrame(1, block);
  const headers = Buffer.from(reply);
  headers[3] = 8;
  const refused = Buffer.concat(Array.from({ length: 1100 }, () => rstOfUsedId()));
  await unharmed(async () => {
    for (const flood of [reply, headers, refused]) {
      const { client } = await dialSpdy(await forwardUrl(node.client, pod.id), ['portforward.k8s.io']);
      if (flood === refused) client.open({ streamtype: 'error', port: '1', requestid: '0' });
      client.transport.write(flood);
      await waitFor(
        'the end of the session',
        10_000,
        () => client.transport.readableEnded || client.transport.destroyed || undefined,
      );
      client.transport.destroy();
    }
  });

  /** Opens a stream whose number has been used, with a block that goes on with the first one's. */
  function rstOfUsedId(): Buffer {
    return synStreamFrame(1, Buffer.from('000400fbff00000000000000ffff', 'hex'));
  }
});

test('clients that read all answers while they flood: others are served', async () => {
  await unharmed(async () => {
    const pings = Buffer.concat(Array.from({ length: 5000 }, () => pingFrame(1)));
    const { client } = await dialSpdy(await forwardUrl(node.client, pod.id), ['portforward.k8s.io']);
    const channels = await openChannels(await execUrl(node.client, id, ['cat'], { stdin: true }), 'v5.channel.k8s.io');
    let pongs = 0;
    channels.socket.on('pong', () => pongs++);
    const spdyFlood = async () => {
      for (let count = 0; count < 40; count++) {
        if (!client.transport.write(pings)) await new Promise((resolve) => client.transport.once('drain', resolve));
      }
      await waitFor('the answers', 20_000, () => client.frames.length === 40 * 5000 || undefined);
    };
    const webSocketFlood = async () => {
      for (let count = 0; count < 200; count++) {
        for (let burst = 0; burst < 200; burst++) channels.socket.ping('x'.repeat(100));
        await new Promise((resolve) => setImmediate(resolve));
      }
      await waitFor('an answer', 20_000, () => pongs > 0 || undefined);
    };
    await othersAreServed(Promise.all([spdyFlood(), webSocketFlood()]));
    client.transport.destroy();
    channels.socket.terminate();
  });
});

test('a message of a million sizes is no size, and others are served', async () => {
  await unharmed(async () => {
    const command = ['sh', '-c', 'while read line; do stty size; done'];
    const session = await openChannels(
      await execUrl(node.client, id, command, { stdin: true, tty: true }),
      'v5.channel.k8s.io',
    );
    session.send(4, '{"Width":91,"Height":37}');
    const size = '{"Width":1,"Height":1}\n';
    session.send(4, size.repeat(Math.floor((31 << 20) / size.length)));
    const answer = async () => {
      await waitFor('the message to be sent', 20_000, () => session.socket.bufferedAmount === 0 || undefined);
      session.send(0, '\n');
      await waitFor('the size', 10_000, () => /\d+ \d+\r\n/.test(session.text(1)) || undefined);
    };
    await othersAreServed(answer());
    assert.match(session.text(1), /37 91\r\n/);
    session.socket.terminate();
  }, 3 * maxGrowthKiB);
});

test('port-forwards over channels that are gone before they have begun leave no connection', async () => {
  const served = await runPod(node.client);
  await runContainer(node.client, served, {
    name: 'deaf',
    command: ['nc', '-ll', '-p', '7000', '-e', 'sleep', '1000'],
  });
  await sleep(300);
  await unharmed(async () => {
    for (let count = 0; count < 200; count++) {
      const socket = beginWebSocket(await forwardUrl(node.client, served.id, [7000]), 'v4.channel.k8s.io');
      await new Promise((resolve) => socket.once('connect', resolve));
      // Its request has been sent; what follows at once is a reset.
      socket.resetAndDestroy();
      await closed(socket);
    }
  });
  await removePod(node.client, served.id);
});

test('clients that send streams and pings without end and never read are not read any more', async () => {
  await unharmed(async () => {
    const pings = Buffer.concat(Array.from({ length: 5000 }, () => pingFrame(1)));
    const { client } = await dialSpdy(await forwardUrl(node.client, pod.id), ['portforward.k8s.io']);
    client.transport.pause();
    for (let count = 0; count < 3000; count++)
      client.open({ streamtype: 'error', port: '1', requestid: String(count) });
    for (let count = 0; count < 600; count++) client.transport.write(pings);
    const channels = await openChannels(await execUrl(node.client, id, ['cat'], { stdin: true }), 'v5.channel.k8s.io');
    channels.socket.pause();
    for (let count = 0; count < 100_000; count++) channels.socket.ping('x'.repeat(100));
    await sleep(1000);
    assert.ok(client.transport.writableLength > 0, 'the daemon reads on although nothing of its answers is taken');
    assert.equal((await execSync(node.client, id, ['true'])).code, 0);
    client.transport.destroy();
    channels.socket.terminate();
  });
});

const http2 = {
  preface: Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  },
  /** Literals that are not indexed (RFC 7541, 6.2.2), names and values shorter than 127 bytes. */
  headers(fields: Readonly<Record<string, string>>): Buffer {
    const text = (value: string) => Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
    const parts = Object.entries(fields).map(([name, value]) => Buffer.concat([Buffer.of(0), text(name), text(value)]));
    return Buffer.concat(parts);
  },
};
const types = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, continuation: 9 };
const endStream = 1;
const endHeaders = 4;
const call = http2.headers({
  ':method': 'POST',
  ':scheme': 'http',
  ':path': '/runtime.v1.RuntimeService/ListContainers',
  ':authority': 'localhost',
  'content-type': 'application/grpc',
  te: 'trailers',
});
const cancel = Buffer.of(0, 0, 0, 8);

/** Sends a flood on a connection of its own until the server ends it or all is sent; the number of rounds. */
async function floodHttp2(
  rounds: number,
  round: (stream: number) => Buffer,
  perWrite = 100,
): Promise<{ sent: number; isEnded: boolean }> {
  const socket = attacker(
    { path: node.daemon.socket },
    Buffer.concat([http2.preface, http2.frame(types.settings, 0, 0, Buffer.alloc(0))]),
  );
  let sent = 0;
  while (sent < rounds && !socket.closed && socket.writable) {
    const batch = Array.from({ length: perWrite }, (_, index) => round((sent + index) * 2 + 1));
    sent += perWrite;
    const isTaken = socket.write(Buffer.concat(batch));
    await new Promise<void>((resolve) => {
      if (isTaken) setImmediate(resolve);
      else {
        socket.once('drain', resolve);
        socket.once('close', resolve);
      }
    });
  }
  await Promise.race([closed(socket), sleep(1000)]);
  const isEnded = socket.closed || !socket.writable;
  socket.destroy();
  return { sent, isEnded };
}

test('CVE-2023-44487: HTTP/2 rapid reset on the CRI’s socket ends its connection, others are served', async () => {
  const message = http2.frame(types.data, endStream, 0, Buffer.alloc(5));
  const requests = {
    'begun and reset': (stream: number) =>
      Buffer.concat([
        http2.frame(types.headers, endHeaders, stream, call),
        http2.frame(types.reset, 0, stream, cancel),
      ]),
    'whole and reset': (stream: number) => {
      const body = Buffer.from(message);
      body.writeUInt32BE(stream, 5);
      return Buffer.concat([
        http2.frame(types.headers, endHeaders, stream, call),
        body,
        http2.frame(types.reset, 0, stream, cancel),
      ]);
    },
  };
  for (const [name, round] of Object.entries(requests)) {
    await unharmed(async () => {
      const flood = floodHttp2(50_000, round);
      await othersAreServed(flood);
      const { sent, isEnded } = await flood;
      assert.ok(isEnded && sent < 50_000, `${name}: ${sent} requests, ended: ${isEnded}`);
    });
  }
});

test('HTTP/2 floods of continuations, settings and pings end their connection or are answered in order', async () => {
  const floods = {
    continuations: (stream: number) =>
      stream === 1
        ? http2.frame(types.headers, 0, 1, call)
        : http2.frame(types.continuation, 0, 1, http2.headers({ [`x-${stream}`]: 'y'.repeat(100) })),
    settings: () => http2.frame(types.settings, 0, 0, Buffer.of(0, 3, 0, 0, 0, 100)),
    pings: () => http2.frame(types.ping, 0, 0, Buffer.alloc(8)),
  };
  for (const round of Object.values(floods)) {
    await unharmed(async () => othersAreServed(floodHttp2(20_000, round)));
  }
});

test('a token is good for a minute, and a session must open its streams within half of one', async () => {
  await sleep(Math.max(0, beganMs + 61_000 - Date.now()));
  await assert.rejects(dialSpdy(unusedUrl, ['v4.channel.k8s.io']), /^Error: 404 404 page not found\n$/);
  const end = silent;
  assert.ok(end !== undefined);
  await end.closed;
});
