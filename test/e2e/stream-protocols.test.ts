import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, createServer, type Server } from 'node:net';
import { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NamespaceMode } from '../../src/cri/gen/api_pb.ts';
import { dialSpdy, openRemoteCommand, SpdyClient } from '../../src/stream/testing/spdy-client.ts';
import { openChannels, openTunnel, type ChannelClient } from '../../src/stream/testing/websocket-client.ts';
import { removePod, runContainer, runPod, waitFor, type Pod } from '../client/pods.ts';
import { attachUrl, execUrl, exitStatus, exitText, forwardUrl, success } from '../client/sessions.ts';
import { usageOf, waitForUsage } from '../client/usage.ts';
import { failureOf, useDaemon } from './environment.ts';

let pod: Pod;
let id: string;
const node = useDaemon({}, async (client) => {
  pod = await runPod(client);
  id = await runContainer(client, pod, { name: 'exec', command: ['sleep', '1000'] });
});

const url = (cmd: readonly string[], options = {}) => execUrl(node.client, id, cmd, options);
const invalidArgument = 3;
const failing = ['sh', '-c', 'echo out; echo err >&2; exit 3'];
const jsonVersions = new Set(['v5.channel.k8s.io', 'v4.channel.k8s.io', 'v4.base64.channel.k8s.io']);

/** What is said of an exit code in a version. */
function expected(protocol: string, code: number): string {
  if (jsonVersions.has(protocol)) return code === 0 ? success : exitStatus(code);
  return code === 0 ? '' : exitText(code);
}

describe('exec over SPDY', () => {
  for (const protocol of ['v4.channel.k8s.io', 'v3.channel.k8s.io', 'v2.channel.k8s.io']) {
    test(`${protocol}: both outputs, and how the command ended`, async () => {
      for (const [command, code] of [
        [failing, 3],
        [['true'], 0],
      ] as const) {
        const session = await openRemoteCommand(await url(command), ['stdout', 'stderr'], protocol);
        assert.equal(await session.error.text, expected(protocol, code));
        if (code === 0) continue;
        assert.deepEqual([await session.stdout?.text, await session.stderr?.text], ['out\n', 'err\n']);
      }
      const missing = await openRemoteCommand(await url(['/no/such']), ['stdout', 'stderr'], protocol);
      const [text, isJson] = [await missing.error.text, jsonVersions.has(protocol)];
      assert.match(
        text,
        isJson ? /^\{"status":"Failure","message":"Internal error/ : /^error executing command in container/,
      );
    });
  }

  test('channel.k8s.io (v1): the error stream is reset and input ended when the session begins, input is still taken', async () => {
    const session = await openRemoteCommand(
      await url(['cat'], { stdin: true }),
      ['stdin', 'stdout', 'stderr'],
      'channel.k8s.io',
    );
    assert.equal(await session.error.text, '');
    assert.equal(await session.stdin?.text, '');
    session.stdin?.send('typed');
    session.stdin?.end();
    assert.equal(await session.stdout?.text, 'typed');
    const { frames } = session.client;
    assert.ok(frames.some((frame) => frame.type === 'rstStream' && frame.id === session.error.id));
  });

  test('a terminal has a stream for its size from version 3 on, and needs none before', async () => {
    for (const protocol of ['v4.channel.k8s.io', 'v3.channel.k8s.io']) {
      const tty = await url(['sh', '-c', 'sleep 0.3; stty size'], { stdin: true, tty: true });
      const session = await openRemoteCommand(tty, ['stdin', 'stdout', 'resize'], protocol);
      session.resize?.send('{"Width":91,"Height":37}\n');
      assert.equal(await session.stdout?.text, '37 91\r\n');
      assert.equal(await session.error.text, expected(protocol, 0));
    }
    for (const protocol of ['v2.channel.k8s.io', 'channel.k8s.io']) {
      const session = await openRemoteCommand(
        await url(['tty'], { stdin: true, tty: true }),
        ['stdin', 'stdout'],
        protocol,
      );
      assert.match((await session.stdout?.text) ?? '', /^\/dev\/pts\/\d+\r\n$/);
    }
  });

  test('streams in any order and at once, an unknown one beside them; nothing is said before the client speaks', async () => {
    const { client, protocol } = await dialSpdy(await url(['cat'], { stdin: true }), [
      'v9',
      'v4.channel.k8s.io',
      'channel.k8s.io',
    ]);
    assert.equal(protocol, 'v4.channel.k8s.io');
    await sleep(50);
    assert.equal(client.frames.length, 0);
    const [, stderr, stdout, stdin, error] = ['other', 'stderr', 'stdout', 'stdin', 'error'].map((streamtype) =>
      client.open({ streamtype }),
    );
    client.ping(9);
    const pinged = () => client.frames.some((frame) => frame.type === 'ping' && frame.id === 9) || undefined;
    await waitFor('the echo of the ping', 5000, pinged);
    stdin?.send('in');
    // For the command a reset is the end of its input too, and the session goes on.
    await waitFor('the echo', 5000, () => stdout?.received === 2 || undefined);
    stdin?.reset();
    assert.deepEqual([await stdout?.text, await stderr?.text, await error?.text], ['in', '', success]);
    await client.closed;
    assert.equal(client.frames.at(-1)?.type, 'goAway');
  });
});

describe('exec over WebSocket', () => {
  for (const protocol of [
    'v5.channel.k8s.io',
    'v4.channel.k8s.io',
    'v4.base64.channel.k8s.io',
    'channel.k8s.io',
    'base64.channel.k8s.io',
    '',
  ]) {
    const isBase64 = protocol.includes('base64');

    test(`${protocol === '' ? 'no sub-protocol' : protocol}: channels, the first message, status and close frame`, async () => {
      const session = await openChannels(await url(failing), protocol);
      assert.equal(await session.closed, 1000);
      assert.deepEqual([session.text(1), session.text(2), session.text(3)], ['out\n', 'err\n', expected(protocol, 3)]);
      const [first] = session.messages;
      assert.deepEqual([first?.channel, first?.data.length], [1, 0]);
      assert.ok(session.messages.every(({ isBinary }) => isBinary !== isBase64));
      const passed = await openChannels(await url(['head', '-c', '4'], { stdin: true }), protocol);
      let pongs = 0;
      passed.socket.on('pong', () => pongs++);
      passed.socket.ping();
      passed.send(7, 'nobody’s');
      if (isBase64) passed.socket.send('0#');
      passed.send(0, Buffer.of(0, 255));
      passed.send(0, 'ab');
      assert.equal(await passed.closed, 1000);
      assert.deepEqual([...passed.bytes(1)], [0, 255, 97, 98]);
      assert.equal(passed.text(3), expected(protocol, 0));
      assert.equal(pongs, 1);
    });

    test(`${protocol === '' ? 'no sub-protocol' : protocol}: a terminal and its size`, async () => {
      const session = await openChannels(
        await url(['sh', '-c', 'sleep 0.3; stty size'], { stdin: true, tty: true }),
        protocol,
      );
      session.send(4, '{"Width":91,"Height":37}');
      assert.equal(await session.closed, 1000);
      assert.equal(session.text(1), '37 91\r\n');
    });
  }

  test('v5: input ends by its own message, a wrong one ends the session', async () => {
    const session = await openChannels(await url(['cat'], { stdin: true }), 'v5.channel.k8s.io');
    session.socket.send(Buffer.of(0, 0x61), { fin: false });
    session.socket.send(Buffer.of(0x62), { fin: true });
    session.closeChannel(0);
    assert.equal(await session.closed, 1000);
    assert.deepEqual([session.text(1), session.text(3)], ['ab', success]);
    for (const wrong of [[255], [255, 0, 0], [255, 1]]) {
      const ended = await openChannels(await url(['cat'], { stdin: true }), 'v5.channel.k8s.io');
      ended.socket.send(Buffer.from(wrong));
      assert.equal(await ended.closed, 1002);
    }
    const older = await openChannels(await url(['cat'], { stdin: true }), 'v4.channel.k8s.io');
    older.closeChannel(0);
    older.send(0, 'still open');
    await waitFor('the echo', 5000, () => older.text(1) === 'still open' || undefined);
    older.socket.close(1000);
    assert.equal(await older.closed, 1000);
  });
});

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, unknown>>;
}

function ask(target: string, method: string, headers: Readonly<Record<string, string | string[]>>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(target, { method, headers, agent: false }, (response) => {
      let body = '';
      response.on('data', (piece: Buffer) => (body += piece.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body, headers: response.headers }));
    });
    sent.on('upgrade', (_response, socket) => {
      socket.destroy();
      resolve({ status: 101, body: '', headers: {} });
    });
    sent.on('error', reject);
    sent.end();
  });
}

test('what could not be served has no URL, but CRI-O’s text', async () => {
  const { runtime } = node.client;
  const request = { containerId: id, cmd: ['true'], stdin: false, stdout: true, stderr: false, tty: false };
  const nothing = { ...request, stdout: false };
  const cases = [
    [runtime.exec({ ...request, containerId: '' }), 'exec endpoint: missing required container_id'],
    [runtime.exec({ ...request, tty: true, stderr: true }), 'exec endpoint: tty and stderr cannot both be true'],
    [runtime.exec(nothing), 'exec endpoint: one of stdin, stdout, or stderr must be set'],
    [runtime.attach({ ...request, containerId: '' }), 'attach endpoint: missing required container_id'],
    [runtime.attach({ ...request, tty: true, stderr: true }), 'attach endpoint: tty and stderr cannot both be true'],
    [runtime.attach(nothing), 'attach endpoint: one of stdin, stdout, and stderr must be set'],
    [runtime.portForward({ podSandboxId: '', port: [] }), 'portforward endpoint: missing required pod_sandbox_id'],
  ] as const;
  for (const [call, text] of cases) {
    assert.deepEqual(await failureOf(call), { code: invalidArgument, details: `unable to prepare ${text}` });
  }
});

describe('negotiation', () => {
  const spdy = { Connection: 'Upgrade', Upgrade: 'SPDY/3.1' };
  const webSocket = {
    Connection: 'keep-alive, Upgrade',
    Upgrade: 'WebSocket',
    'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    'Sec-WebSocket-Version': '13',
  };

  test('what cannot be negotiated is refused with the texts of the Go server', async () => {
    const offer = (...names: string[]) => ({ ...spdy, 'X-Stream-Protocol-Version': names });
    const accepted = 'v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io';
    const cases = [
      [
        'POST',
        spdy,
        400,
        /^unable to upgrade: header X-Stream-Protocol-Version does not exist in request with \d+ headers\n$/,
      ],
      ['POST', offer(''), 400, /contains \[\], but no valid protocols\n$/],
      ['POST', offer('a', 'b'), 403, new RegExp(`client supports \\[a b\\], server accepts \\[${accepted}\\]\n$`)],
      ['POST', { 'X-Stream-Protocol-Version': 'channel.k8s.io' }, 400, /^unable to upgrade: missing upgrade headers/],
      ['GET', offer('v5.channel.k8s.io'), 403, /unable to negotiate protocol/],
      ['POST', webSocket, 405, /^bad method$/],
      ['GET', { ...webSocket, 'Sec-WebSocket-Key': '' }, 400, /^mismatch challenge\/response$/],
      ['GET', { ...webSocket, 'Sec-WebSocket-Version': '8' }, 400, /^missing or bad WebSocket Version$/],
      ['GET', { ...webSocket, 'Sec-WebSocket-Protocol': 'v6.channel.k8s.io, SPDY/3.1+portforward.k8s.io' }, 403, /^$/],
    ] as const;
    for (const [method, headers, status, body] of cases) {
      const target = await url(['true']);
      const answer = await ask(target, method, headers);
      assert.equal(answer.status, status, JSON.stringify(headers));
      assert.match(answer.body, body);
      // The token is used up by the first request that names it.
      assert.equal((await ask(target, 'POST', offer('v4.channel.k8s.io'))).status, 404);
    }
    const refused = await ask(await url(['true']), 'POST', offer('a'));
    assert.equal(refused.headers['x-accepted-stream-protocol-versions'], accepted.replaceAll(' ', ', '));
  });

  test('a token is good for one request of its own kind; other paths and methods have their answers', async () => {
    const offer = { ...spdy, 'X-Stream-Protocol-Version': 'v4.channel.k8s.io' };
    const token = await url(['true']);
    assert.deepEqual(await short(token.replace(/.$/, '!'), 'POST'), [404, '404: Page Not Found']);
    assert.deepEqual(await short(new URL('/', token).href, 'GET'), [404, '404: Page Not Found']);
    assert.deepEqual(await short(token, 'PUT'), [405, '405: Method Not Allowed']);
    assert.deepEqual(await short(token.replace('/exec/', '/attach/'), 'POST'), [404, '404 page not found\n']);
    assert.deepEqual(await short(token, 'POST'), [404, '404 page not found\n']);
    const good = await url(['true']);
    assert.equal((await ask(`${good}/?command=ls&tty=1`, 'POST', offer)).status, 101);
    assert.deepEqual(await short(good, 'POST'), [404, '404 page not found\n']);
  });

  test('a request whose body comes late is upgraded like another, and its body is not taken for SPDY', async () => {
    const { hostname, port, pathname } = new URL(await url(['echo', 'hello']));
    const socket = connect(Number(port), hostname);
    const offer = 'X-Stream-Protocol-Version: v4.channel.k8s.io';
    const head = [`POST ${pathname} HTTP/1.1`, 'Host: x', 'Connection: Upgrade', 'Upgrade: SPDY/3.1', offer];
    socket.write(`${head.join('\r\n')}\r\nContent-Length: 4\r\n\r\n`);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(answer.toString(), /^HTTP\/1\.1 101 /);
    socket.write('body');
    const client = new SpdyClient(socket);
    const streams = ['error', 'stdout', 'stderr'].map((streamtype) => client.open({ streamtype }));
    assert.deepEqual(await Promise.all(streams.map(({ text }) => text)), [success, 'hello\n', '']);
    await client.closed;
  });

  async function short(target: string, method: string): Promise<[number, string]> {
    const { status, body } = await ask(target, method, { 'X-Stream-Protocol-Version': 'v4.channel.k8s.io' });
    return [status, body];
  }
});

describe('attach', () => {
  test('several clients of a terminal see the same, each may type and resize, and leave without a trace', async () => {
    const config = { stdin: true, tty: true };
    const container = await runContainer(node.client, pod, { name: 'tty', command: ['sh'], config });
    const one = await openRemoteCommand(await attachUrl(node.client, container, true), ['stdin', 'stdout', 'resize']);
    const two = await openChannels(await attachUrl(node.client, container, true), 'v5.channel.k8s.io');
    const three = await openRemoteCommand(await attachUrl(node.client, container, true), ['stdin', 'stdout', 'resize']);
    await sleep(200);
    const received = () => [one.stdout?.received ?? 0, two.received, three.stdout?.received ?? 0];
    // What came before the last of them joined is not for all.
    const before = received();
    one.resize?.send('{"Width":70,"Height":20}');
    await sleep(200);
    one.stdin?.send('stty size; echo from-one\n');
    await waitFor('the output of one', 5000, () => /20 70\r\nfrom-one/.test(two.text(1)) || undefined);
    two.send(4, '{"Width":90,"Height":30}');
    await sleep(200);
    two.send(0, 'stty size; echo from-two\n');
    await waitFor('the output of two', 5000, () => /30 90\r\nfrom-two/.test(two.text(1)) || undefined);
    await waitFor('the same at the others', 5000, () => {
      const gained = received().map((count, index) => count - (before[index] ?? 0));
      return gained.every((count) => count === gained[0]) || undefined;
    });
    one.client.transport.destroy();
    two.send(0, Buffer.of(0x10));
    await sleep(100);
    two.send(0, Buffer.of(0x11));
    assert.equal(await two.closed, 1000);
    assert.equal(two.text(3), success);
    three.stdin?.send('exit\n');
    assert.equal(await three.error.text, success);
  });

  test('the input of a container that takes it once ends with its first client that ends it, for all', async () => {
    const config = { stdin: true, stdinOnce: true };
    const command = ['sh', '-c', 'cat; echo ended'];
    const container = await runContainer(node.client, pod, { name: 'once', command, config });
    const watcher = await openChannels(await attachUrl(node.client, container), 'v4.channel.k8s.io');
    const typist = await openRemoteCommand(await attachUrl(node.client, container), ['stdin', 'stdout', 'stderr']);
    await sleep(200);
    typist.stdin?.send('typed\n');
    typist.stdin?.end();
    assert.equal(await typist.stdout?.text, 'typed\nended\n');
    assert.equal(await watcher.closed, 1000);
    assert.equal(watcher.text(1), 'typed\nended\n');
  });

  test('the input of a container that takes it always goes on after a client that ended its own', async () => {
    const config = { stdin: true, stdinOnce: false };
    const container = await runContainer(node.client, pod, { name: 'always', command: ['cat'], config });
    for (const text of ['one\n', 'two\n']) {
      const session = await openChannels(await attachUrl(node.client, container), 'v5.channel.k8s.io');
      await sleep(200);
      session.send(0, text);
      await waitFor('the echo', 5000, () => session.text(1) === text || undefined);
      session.closeChannel(0);
      assert.equal(await session.closed, 1000);
    }
  });

  test('a container without input is seen and not disturbed by a client that types', async () => {
    const command = ['sh', '-c', 'read line; echo "got <$line>"; sleep 0.7; echo later'];
    const container = await runContainer(node.client, pod, {
      name: 'deaf',
      command: ['sh', '-c', `sleep 0.5; ${command[2]}`],
    });
    const session = await openRemoteCommand(await attachUrl(node.client, container), ['stdin', 'stdout', 'stderr']);
    session.stdin?.send('typed\n'.repeat(100));
    assert.equal(await session.stdout?.text, 'got <>\nlater\n');
    assert.equal(await session.error.text, success);
  });
});

describe('port-forward', () => {
  const page = Array.from({ length: 2000 }, (_, index) => `${index + 1}\n`).join('');
  const get = 'GET /file HTTP/1.0\r\n\r\n';

  async function webPod(...addresses: readonly string[]): Promise<Pod> {
    const served = await runPod(node.client);
    const servers = addresses.map((address) => `httpd -f -p ${address} -h /tmp/www & `).join('');
    const command = ['sh', '-c', `mkdir /tmp/www; seq 2000 >/tmp/www/file; ${servers} nc -ll -p 7000 -e cat & wait`];
    await runContainer(node.client, served, { name: 'web', command });
    await sleep(500);
    return served;
  }

  /** Writes messages of one byte, with empty ones between: their borders mean nothing. */
  function crumbled(tunnel: Duplex): Duplex {
    const near = new Duplex({
      read: () => tunnel.resume(),
      write(chunk: Buffer, _encoding, done) {
        for (const byte of chunk) {
          tunnel.write(Buffer.of(byte));
          tunnel.write(Buffer.alloc(0));
        }
        done();
      },
    });
    tunnel.on('data', (data) => near.push(data));
    tunnel.on('end', () => near.push(null));
    return near;
  }

  async function useSpdy(client: SpdyClient, port: number): Promise<{ text: string; error: string }> {
    const headers = { port: String(port), requestid: String(port) };
    const error = client.open({ streamtype: 'error', ...headers });
    error.end();
    const data = client.open({ streamtype: 'data', ...headers });
    await data.replied;
    data.send(get);
    data.end();
    return { text: await data.text, error: await error.text };
  }

  test('SPDY alone, SPDY inside a WebSocket, whole and byte by byte: data, refused ports, IPv6', async () => {
    const served = await webPod('8000', '[::1]:8001');
    const protocol = 'SPDY/3.1+portforward.k8s.io';
    const clients: SpdyClient[] = [
      (await dialSpdy(await forwardUrl(node.client, served.id), ['portforward.k8s.io'])).client,
      new SpdyClient(await openTunnel(await forwardUrl(node.client, served.id), protocol)),
      new SpdyClient(crumbled(await openTunnel(await forwardUrl(node.client, served.id), protocol))),
    ];
    for (const client of clients) {
      for (const port of [8000, 8001]) {
        const { text, error } = await useSpdy(client, port);
        assert.ok(text.endsWith(page), text.slice(0, 200));
        assert.equal(error, '');
      }
      const { error } = await useSpdy(client, 8002);
      assert.match(
        error,
        /^error forwarding port 8002 to pod [0-9a-f]{64}, uid : .*dial tcp4 127\.0\.0\.1:8002: connect: connection refused$/,
      );
      client.goAway();
      await client.closed;
    }
    await removePod(node.client, served.id);
  });

  test('channels of a WebSocket: two per port, named by the port, errors on the second; binary and base64', async () => {
    const served = await webPod('8000');
    for (const protocol of ['v4.channel.k8s.io', 'v4.base64.channel.k8s.io', '']) {
      const ports = [8000, 8002, 7000];
      const session = await openChannels(await forwardUrl(node.client, served.id, ports), protocol);
      session.send(0, get);
      session.send(4, 'to cat');
      await waitFor(
        'the answers',
        5000,
        () => (session.text(0).endsWith(page) && session.text(4).endsWith('to cat')) || undefined,
      );
      await waitFor('the error', 5000, () => session.text(3).includes('connection refused') || undefined);
      assert.deepEqual(firstMessages(session, 6), [
        [0, 8000],
        [1, 8000],
        [2, 8002],
        [3, 8002],
        [4, 7000],
        [5, 7000],
      ]);
      session.socket.close();
      await session.closed;
    }
    const none = await openChannels(await forwardUrl(node.client, served.id, []), 'v4.channel.k8s.io');
    assert.equal(await none.closed, 1000);
    const many = (count: number) => forwardUrl(node.client, served.id, Array<number>(count).fill(8002));
    for (const [protocol, most] of [
      ['v4.channel.k8s.io', 128],
      ['v4.base64.channel.k8s.io', 40],
    ] as const) {
      const all = await openChannels(await many(most), protocol);
      assert.equal(await all.closed, 1000);
      assert.match(all.text(2 * most - 1), /connection refused/);
      await assert.rejects(openChannels(await many(most + 1), protocol), /^Error: 400/);
    }
    await removePod(node.client, served.id);
  });

  function firstMessages({ messages }: ChannelClient, count: number): [number, number][] {
    return messages.slice(0, count).map(({ channel, data }) => [channel, data.readUInt16LE()]);
  }

  test('a stream without a good port or type is reset, one of two without a partner hurts nobody', async () => {
    const served = await webPod('8000');
    const { client } = await dialSpdy(await forwardUrl(node.client, served.id), ['portforward.k8s.io']);
    const wrong: readonly Record<string, string>[] = [
      { streamtype: 'data' },
      { port: '0', streamtype: 'data' },
      { port: '80', streamtype: 'x' },
    ];
    for (const headers of wrong) {
      const stream = client.open(headers);
      assert.equal(await stream.text, '');
      assert.ok(client.frames.some((frame) => frame.type === 'rstStream' && frame.id === stream.id));
    }
    const lonely = client.open({ streamtype: 'error', port: '80', requestid: '7' });
    client.open({ streamtype: 'error', port: '80', requestid: '7' });
    assert.match(await lonely.text, /error processing stream for request 7: error stream already assigned/);
    assert.ok((await useSpdy(client, 8000)).text.endsWith(page));
    client.goAway();
    await removePod(node.client, served.id);
  });

  test('a pod in the host’s network: its ports are the host’s, over IPv4 and IPv6, and no program is started for it', async () => {
    const namespaceOptions = { network: NamespaceMode.NODE, pid: NamespaceMode.CONTAINER, ipc: NamespaceMode.POD };
    const host = await runPod(node.client, { config: { linux: { securityContext: { namespaceOptions } } } });
    const servers: Server[] = [];
    const listen = async (address: string, stays = false): Promise<number> => {
      const server = createServer((socket) => {
        socket.write(`here at ${address}\n`);
        if (!stays) socket.end();
      });
      servers.push(server);
      await new Promise<void>((resolve) => server.listen(0, address, resolve));
      const bound = server.address();
      return typeof bound === 'object' && bound !== null ? bound.port : 0;
    };
    const ports = [await listen('127.0.0.1'), await listen('::1')];
    const before = usageOf(node.daemon.pid());
    const { client } = await dialSpdy(await forwardUrl(node.client, host.id), ['portforward.k8s.io']);
    assert.deepEqual(
      [(await useSpdy(client, ports[0] ?? 0)).text, (await useSpdy(client, ports[1] ?? 0)).text],
      ['here at 127.0.0.1\n', 'here at ::1\n'],
    );
    assert.match(
      (await useSpdy(client, 1)).error,
      /failed to connect to localhost:1 inside namespace .* connection refused$/,
    );
    const port = String(await listen('127.0.0.1', true));
    client.open({ streamtype: 'error', port, requestid: port });
    const open = client.open({ streamtype: 'data', port, requestid: port });
    await waitFor('the first words', 5000, () => open.received > 0 || undefined);
    // What an earlier test has left may be ending just now.
    const sameChildren = () => usageOf(node.daemon.pid()).children <= before.children || undefined;
    await waitFor('no program beside the open connection', 5000, sameChildren);
    client.goAway();
    await client.closed;
    await waitForUsage(node.daemon.pid(), before);
    for (const server of servers) server.close();
    await removePod(node.client, host.id);
  });
});
