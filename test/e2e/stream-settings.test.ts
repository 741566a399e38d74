import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openChannels } from '../../src/stream/testing/websocket-client.ts';
import { dialSpdy, openRemoteCommand } from '../../src/stream/testing/spdy-client.ts';
import { makeAuthority } from '../client/certificates.ts';
import { crictlFor } from '../client/crictl.ts';
import { removePod, runContainer, runPod, waitFor, type Pod } from '../client/pods.ts';
import { residentKiB, usageOf, waitForUsage } from '../client/usage.ts';
import { buildTools } from '../conformance/build.ts';
import { buildImages } from '../fixtures/build.ts';
import { daemonFile, startDaemon, type Daemon } from '../run/daemon.ts';
import { stageFolder } from '../run/stage.ts';
import { useDaemon } from './environment.ts';

const folder = mkdtempSync(join(stageFolder(), 'tls-'));
const authority = makeAuthority(folder, 'authority');
const stranger = makeAuthority(folder, 'stranger');
const [first, second, client] = ['first', 'second', 'client'].map((name) => authority.issue(name));
const foreign = stranger.issue('foreign');
assert.ok(first !== undefined && second !== undefined && client !== undefined);
const clientTls = {
  ca: readFileSync(authority.certificate),
  cert: readFileSync(client.cert),
  key: readFileSync(client.key),
};
const used = { cert: join(folder, 'server.pem'), key: join(folder, 'server.key'), ca: join(folder, 'clients.pem') };
cpSync(first.cert, used.cert);
cpSync(first.key, used.key);
cpSync(authority.certificate, used.ca);

const suite = { go: 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256', openSsl: 'ECDHE-RSA-AES128-GCM-SHA256' };
const tlsOptions = `
stream_enable_tls = true
stream_tls_cert = "${used.cert}"
stream_tls_key = "${used.key}"
`;
const dropIn = '/etc/crio/crio.conf.d/10-stream.conf';
mkdirSync(dirname(dropIn), { recursive: true });
const configure = (options: string) => writeFileSync(dropIn, `[crio.api]\n${tlsOptions}\n${options}\n`);
const limits = `
stream_tls_ca = "${used.ca}"
tls_cipher_suites = ["${suite.go}"]
stream_idle_timeout = "1s"
`;
configure(limits);
const node = useDaemon();
const { crictl } = buildTools((await buildImages('test')).digests);

async function execUrl(daemon: Daemon, containerId: string, cmd: readonly string[], stdin = false): Promise<string> {
  return (await daemon.client.runtime.exec({ containerId, cmd: [...cmd], stdin, stdout: true, stderr: true })).url;
}

interface Handshake {
  /** Of a request after the handshake: a refused client certificate is only known then. */
  readonly answered: boolean;
  readonly output: string;
}

/** openssl(1) as a client that verifies the server, with one request. */
async function handshake(daemon: Daemon, ...args: readonly string[]): Promise<Handshake> {
  const { host } = new URL((await daemon.client.runtime.exec({ containerId: 'x', cmd: ['x'], stdout: true })).url);
  const verify = ['-CAfile', authority.certificate, '-verify_return_error', '-verify_ip', '127.0.0.1'];
  const child = spawn('openssl', ['s_client', '-connect', host, ...verify, '-ign_eof', ...args]);
  child.stdin.on('error', () => {});
  child.stdin.end('GET /nothing HTTP/1.0\r\n\r\n');
  const output = (await Promise.all([text(child.stdout), text(child.stderr)])).join('');
  return { answered: output.includes('404: Page Not Found'), output };
}

const asClient = ['-cert', client.cert, '-key', client.key];

describe('TLS', () => {
  let pod: Pod;
  let id: string;
  before(async () => {
    pod = await runPod(node.client);
    id = await runContainer(node.client, pod, { name: 'exec', command: ['sleep', '1000'] });
  });
  after(() => removePod(node.client, pod.id));

  test('serves exec over SPDY and over WebSocket, and a port-forward', async () => {
    const url = await execUrl(node.daemon, id, ['cat'], true);
    assert.match(url, /^https:\/\/127\.0\.0\.1:\d+\/exec\//);
    const tls = clientTls;
    const session = await openRemoteCommand(url, ['stdin', 'stdout', 'stderr'], 'v4.channel.k8s.io', { tls });
    session.stdin?.send('over SPDY');
    session.stdin?.end();
    assert.equal(await session.stdout?.text, 'over SPDY');
    assert.equal(await session.error.text, '{"status":"Success"}');
    const channels = await openChannels(await execUrl(node.daemon, id, ['cat'], true), 'v5.channel.k8s.io', { tls });
    channels.send(0, 'over WebSocket');
    channels.closeChannel(0);
    assert.equal(await channels.closed, 1000);
    assert.equal(channels.text(1), 'over WebSocket');
    const forward = await node.client.runtime.portForward({ podSandboxId: pod.id, port: [] });
    const { client: spdy } = await dialSpdy(forward.url, ['portforward.k8s.io'], { tls });
    const error = spdy.open({ streamtype: 'error', port: '1', requestid: '0' });
    spdy.open({ streamtype: 'data', port: '1', requestid: '0' });
    assert.match(await error.text, /connection refused$/);
    spdy.goAway();
  });

  test('needs a certificate of the configured authority from its clients', async () => {
    assert.ok((await handshake(node.daemon, ...asClient)).answered);
    const without = await handshake(node.daemon);
    assert.ok(!without.answered, without.output);
    assert.match(without.output, /certificate required|handshake failure|alert/);
    const other = await handshake(node.daemon, '-cert', foreign.cert, '-key', foreign.key);
    assert.ok(!other.answered, other.output);
  });

  test('speaks TLS 1.2 with the named cipher suites alone, TLS 1.3 with its own, and nothing older', async () => {
    const named = await handshake(node.daemon, ...asClient, '-tls1_2');
    assert.ok(named.answered, named.output);
    assert.match(named.output, new RegExp(`Cipher is ${suite.openSsl}`));
    assert.ok(
      !(await handshake(node.daemon, ...asClient, '-tls1_2', '-cipher', 'ECDHE-RSA-AES256-GCM-SHA384')).answered,
    );
    const newest = await handshake(node.daemon, ...asClient, '-tls1_3');
    assert.ok(newest.answered, newest.output);
    assert.match(newest.output, /Cipher is TLS_AES_/);
    const old = await handshake(node.daemon, ...asClient, '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0');
    assert.ok(!old.answered, old.output);
  });

  test('uses changed files from the next connection on, without a restart; what does not fit together is not used', async (t) => {
    assert.ok(first !== undefined && second !== undefined);
    const name = async () => /subject=.*CN ?= ?(\w+)/.exec((await handshake(node.daemon, ...asClient)).output)?.[1];
    assert.equal(await name(), 'first');
    const open = await openChannels(await execUrl(node.daemon, id, ['cat'], true), 'v5.channel.k8s.io', {
      tls: clientTls,
    });
    // The handshakes below may take longer than the idle timeout.
    const talk = setInterval(() => open.send(0, '.'), 200);
    t.after(() => clearInterval(talk));
    replace(second.cert, used.cert);
    assert.equal(await name(), 'first');
    replace(second.key, used.key);
    assert.equal(await name(), 'second');
    replace(stranger.certificate, used.ca);
    assert.ok(!(await handshake(node.daemon, ...asClient)).answered);
    assert.ok((await handshake(node.daemon, '-cert', foreign.cert, '-key', foreign.key)).answered);
    replace(authority.certificate, used.ca);
    writeFileSync(used.cert, 'no certificate');
    assert.equal(await name(), 'second');
    replace(first.cert, used.cert);
    replace(first.key, used.key);
    assert.equal(await name(), 'first');
    clearInterval(talk);
    open.send(0, 'still here');
    open.closeChannel(0);
    assert.equal(await open.closed, 1000);
    assert.match(open.text(1), /^\.*still here$/);
    const warnings = node.daemon.log().match(/reload the certificate of the stream server/g);
    assert.equal(warnings?.length, 2, 'one warning for each version of the files that is no pair');
  });

  /** As a writer of certificates does it: whole, by rename. */
  function replace(source: string, target: string): void {
    cpSync(source, `${target}.new`);
    renameSync(`${target}.new`, target);
  }

  test('a session without payload for stream_idle_timeout ends: pings do not count, payload does', async () => {
    const idle = await openChannels(await execUrl(node.daemon, id, ['cat'], true), 'v5.channel.k8s.io', {
      tls: clientTls,
    });
    const session = await openRemoteCommand(
      await execUrl(node.daemon, id, ['cat'], true),
      ['stdin', 'stdout', 'stderr'],
      'v4.channel.k8s.io',
      { tls: clientTls },
    );
    const busy = await openChannels(await execUrl(node.daemon, id, ['cat'], true), 'v5.channel.k8s.io', {
      tls: clientTls,
    });
    let pongs = 0;
    idle.socket.on('pong', () => pongs++);
    const timer = setInterval(() => {
      idle.socket.ping();
      session.client.ping(1);
    }, 100);
    const talk = setInterval(() => busy.send(0, 'x'), 300);
    try {
      await Promise.all([idle.closed, session.client.closed]);
      assert.ok(pongs > 3 && session.client.frames.filter(({ type }) => type === 'ping').length > 3);
      assert.equal(session.client.frames.at(-1)?.type, 'goAway');
      await sleep(1200);
      assert.equal(busy.socket.readyState, busy.socket.OPEN);
    } finally {
      clearInterval(timer);
      clearInterval(talk);
    }
    busy.closeChannel(0);
    assert.equal(await busy.closed, 1000);
  });

  test('the same for attach, port-forwards and their tunnels; what a command prints is payload', async () => {
    const tls = clientTls;
    const attach = await node.client.runtime.attach({ containerId: id, stdout: true, stderr: true });
    const attached = await openChannels(attach.url, 'v5.channel.k8s.io', { tls });
    const forwardUrl = async () => (await node.client.runtime.portForward({ podSandboxId: pod.id, port: [] })).url;
    const { client: forward } = await dialSpdy(await forwardUrl(), ['portforward.k8s.io'], { tls });
    const tunnel = await openChannels(await forwardUrl(), 'SPDY/3.1+portforward.k8s.io', { tls });
    const command = ['sh', '-c', 'while :; do echo x; sleep 0.3; done'];
    const printing = await openChannels(await execUrl(node.daemon, id, command), 'v5.channel.k8s.io', { tls });
    await Promise.all([attached.closed, forward.closed]);
    assert.equal(forward.frames.at(-1)?.type, 'goAway');
    // Of a tunnel's ends clients take only this one for an end.
    assert.equal(await tunnel.closed, 1000);
    await sleep(1200);
    assert.equal(printing.socket.readyState, printing.socket.OPEN);
    printing.socket.terminate();
    await printing.closed;
  });

  test('connections that never begin their handshake are as many as others without a session', async () => {
    const { hostname, port } = new URL(await execUrl(node.daemon, id, ['true']));
    const before = usageOf(node.daemon.pid());
    const sockets: Socket[] = [];
    while (sockets.length < 3000) {
      const wave = Array.from({ length: 250 }, () => connectTcp(Number(port), hostname).on('error', () => {}));
      sockets.push(...wave);
      await Promise.all(wave.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
      const open = (usageOf(node.daemon.pid()).descriptors['socket'] ?? 0) - (before.descriptors['socket'] ?? 0);
      assert.ok(open <= 2250, `${open} connections`);
    }
    assert.ok((await handshake(node.daemon, ...asClient)).answered);
    for (const socket of sockets) socket.destroy();
    await waitForUsage(node.daemon.pid(), before);
  });

  test('the end of the daemon ends open sessions and their commands, and does not wait for them', async () => {
    const tls = clientTls;
    const marker = '987.25';
    const channels = await openChannels(await execUrl(node.daemon, id, ['sleep', marker]), 'v5.channel.k8s.io', {
      tls,
    });
    const forward = await node.client.runtime.portForward({ podSandboxId: pod.id, port: [] });
    const { client: spdy } = await dialSpdy(forward.url, ['portforward.k8s.io'], { tls });
    await waitFor('the command', 5000, async () => (await isRunning(marker)) || undefined);
    const begin = Date.now();
    await node.daemon.restart('SIGTERM');
    assert.ok(Date.now() - begin < 8000, 'long before the limits of connections');
    await Promise.all([channels.closed, spdy.closed]);
    // A connection that is only cut would be a success.
    assert.match(channels.text(3), /Internal error occurred: the daemon is shutting down/);
    assert.ok(!(await isRunning(marker)));
    assert.ok(!node.daemon.log().includes('Unhandled'));
  });

  async function isRunning(marker: string): Promise<boolean> {
    const reply = await node.client.runtime.execSync({ containerId: id, cmd: ['ps', '-o', 'args'], timeout: 10n });
    return Buffer.from(reply.stdout).includes(marker);
  }

  test('options of the server are not reloaded by SIGHUP, as in CRI-O', async () => {
    const base = async () =>
      new URL((await node.client.runtime.exec({ containerId: 'x', cmd: ['x'], stdout: true })).url);
    const { origin } = await base();
    writeFileSync(dropIn, '[crio.api]\nstream_enable_tls = false\nstream_address = "::1"\n');
    process.kill(node.daemon.pid(), 'SIGHUP');
    await waitFor('the reload', 5000, () => node.daemon.log().includes('Configuration reload completed') || undefined);
    assert.equal((await base()).origin, origin);
    assert.ok((await handshake(node.daemon, ...asClient)).answered);
    configure(limits);
  });
});

describe('other settings', () => {
  before(() => node.daemon.stop());
  after(async () => {
    configure(limits);
    await node.daemon.restart('SIGTERM');
  });

  test('TLS 1.3 alone: nothing older is spoken, and crictl runs commands over it without a certificate', async () => {
    configure('tls_min_version = "VersionTLS13"');
    await using daemon = await startDaemon();
    const pod = await runPod(daemon.client);
    const id = await runContainer(daemon.client, pod, { name: 'exec', command: ['sleep', '1000'] });
    assert.ok((await handshake(daemon, '-tls1_3')).answered);
    assert.ok(!(await handshake(daemon, '-tls1_2')).answered);
    const { run } = crictlFor(crictl, () => daemon.socket);
    for (const transport of ['spdy', 'websocket']) {
      const args = ['exec', '--transport', transport, '-i', id, 'cat'];
      assert.deepEqual((await run('over TLS\n', ...args)).slice(0, 2), [0, 'over TLS\n']);
    }
    await clientsThatStopReading(daemon, id);
    await removePod(daemon.client, pod.id);
  });

  async function clientsThatStopReading(daemon: Daemon, id: string): Promise<void> {
    const command = ['sh', '-c', 'seq 2000000; touch /tmp/sent'];
    const bytes = 14_888_896;
    const tls = { ca: clientTls.ca };
    const spdy = await openRemoteCommand(
      await execUrl(daemon, id, command),
      ['stdout', 'stderr'],
      'v4.channel.k8s.io',
      { tls },
    );
    const channels = await openChannels(await execUrl(daemon, id, command), 'v5.channel.k8s.io', { tls });
    const clients = [spdy.client.transport, channels.socket];
    for (const client of clients) client.pause();
    const before = residentKiB(daemon.pid());
    await sleep(1500);
    const grown = residentKiB(daemon.pid()) - before;
    assert.ok(grown < 16 * 1024, `the daemon grew by ${grown} KiB`);
    const reply = await daemon.client.runtime.execSync({ containerId: id, cmd: ['test', '-e', '/tmp/sent'] });
    assert.equal(reply.exitCode, 1);
    for (const client of clients) client.resume();
    assert.equal(await spdy.error.text, '{"status":"Success"}');
    assert.equal(await channels.closed, 1000);
    assert.deepEqual([spdy.stdout?.received, channels.bytes(1).length], [bytes, bytes]);
  }

  test('stream_address and stream_port: an IPv6 address is in the URL, what cannot be listened on ends the start', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '::1', resolve));
    const address = taken.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const listenOn = (text: string) =>
      writeFileSync(dropIn, `[crio.api]\nstream_address = "::1"\nstream_port = "${text}"\n`);
    listenOn(String(port));
    const inVain = startInVain();
    await new Promise((resolve) => taken.close(resolve));
    assert.match(inVain, new RegExp(`level=fatal msg="listen for streams on .*::1:${port}.*EADDRINUSE`));
    listenOn('70000');
    assert.match(startInVain(), /stream_port .*70000.*: not a port/);
    listenOn(String(port));
    await using daemon = await startDaemon();
    const pod = await runPod(daemon.client);
    const id = await runContainer(daemon.client, pod, { name: 'exec', command: ['sleep', '1000'] });
    const url = await execUrl(daemon, id, ['echo', 'hello']);
    assert.ok(url.startsWith(`http://[::1]:${port}/exec/`), url);
    const session = await openRemoteCommand(url, ['stdout', 'stderr']);
    assert.equal(await session.stdout?.text, 'hello\n');
    await removePod(daemon.client, pod.id);
  });

  /** What a daemon that does not start prints. */
  function startInVain(): string {
    const { status, stdout, stderr } = spawnSync(daemonFile, { encoding: 'utf8', timeout: 20_000 });
    assert.equal(status, 1, stderr);
    return stdout + stderr;
  }
});
