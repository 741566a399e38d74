import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { dialSpdy, openRemoteCommand, SpdyClient } from '../../src/stream/testing/spdy-client.ts';
import { openTunnel } from '../../src/stream/testing/websocket-client.ts';
import {
  createContainer,
  execSync,
  removePod,
  runContainer,
  runPod,
  waitFor,
  waitForListener,
  type Pod,
  waitForExit,
} from '../client/pods.ts';
import { attachUrl, execUrl, exitStatus, forwardUrl, success } from '../client/sessions.ts';
import { residentKiB } from '../client/usage.ts';
import { handlers, useDaemon } from './environment.ts';

const node = useDaemon();

async function processes(containerId: string): Promise<string> {
  return (await execSync(node.client, containerId, ['ps', '-o', 'args'])).stdout;
}

async function noProcess(containerId: string, pattern: RegExp): Promise<void> {
  await waitFor(`the end of ${pattern}`, 5000, async () => !pattern.test(await processes(containerId)) || undefined);
}

for (const handler of handlers) {
  describe(`exec with ${handler}`, () => {
    let pod: Pod;
    let id: string;
    before(async () => {
      pod = await runPod(node.client, { handler });
      id = await runContainer(node.client, pod, { name: 'exec', command: ['sleep', '1000'] });
    });
    after(() => removePod(node.client, pod.id));

    test('gives both outputs apart and the exit code', async () => {
      for (const code of [0, 1, 137, 255]) {
        const url = await execUrl(node.client, id, ['sh', '-c', `echo out; echo err >&2; exit ${code}`]);
        const session = await openRemoteCommand(url, ['stdout', 'stderr']);
        assert.equal(await session.stdout?.text, 'out\n');
        assert.equal(await session.stderr?.text, 'err\n');
        assert.equal(await session.error.text, code === 0 ? success : exitStatus(code));
        await session.client.closed;
      }
    });

    test('passes input until its end, also a lot of it, both ways', async () => {
      const size = 8 << 20;
      const session = await openRemoteCommand(await execUrl(node.client, id, ['cat'], { stdin: true }), [
        'stdin',
        'stdout',
        'stderr',
      ]);
      for (let sent = 0; sent < size; sent += 1 << 20) session.stdin?.send(Buffer.alloc(1 << 20, 'x'));
      session.stdin?.end();
      assert.equal((await session.stdout?.text)?.length, size);
      assert.equal(await session.error.text, success);
    });

    test('reports the exit code while the client floods the input of a command that does not read', async () => {
      const session = await openRemoteCommand(
        await execUrl(node.client, id, ['sh', '-c', 'sleep 0.5; exit 4'], { stdin: true }),
        ['stdin', 'stdout', 'stderr'],
      );
      for (let sent = 0; sent < 8; sent++) session.stdin?.send(Buffer.alloc(1 << 20, 'x'));
      assert.equal(await session.error.text, exitStatus(4));
    });

    test('says why a command does not start', async () => {
      const session = await openRemoteCommand(await execUrl(node.client, id, ['/no/such/program']), [
        'stdout',
        'stderr',
      ]);
      assert.match(
        await session.error.text,
        /Internal error occurred: error executing command in container: .*no such file/i,
      );
      const unknown = await openRemoteCommand(await execUrl(node.client, 'f'.repeat(64), ['true']), [
        'stdout',
        'stderr',
      ]);
      assert.match(await unknown.error.text, /rpc error: code = NotFound desc = could not find container/);
    });

    test('has a terminal of the size that the client sent first, and follows its changes', async () => {
      const url = await execUrl(node.client, id, ['sh'], { stdin: true, tty: true });
      const session = await openRemoteCommand(url, ['stdin', 'stdout', 'resize']);
      session.resize?.send('{"Width":91,"Height":37}\n');
      session.stdin?.send('stty size; stty size >/tmp/size\n');
      await waitFor(
        'the first size',
        5000,
        async () => (await execSync(node.client, id, ['cat', '/tmp/size'])).stdout === '37 91\n' || undefined,
      );
      session.resize?.send('{"Width":50,');
      session.resize?.send('"Height":20}{"Width":120,"Height":40}');
      await sleep(50);
      session.stdin?.send('stty size >/tmp/size; tty; exit 3\n');
      assert.match((await session.stdout?.text) ?? '', /37 91\r\n[^]*\/dev\/pts\/\d/);
      assert.equal(await session.error.text, exitStatus(3));
      assert.equal((await execSync(node.client, id, ['cat', '/tmp/size'])).stdout, '40 120\n');
    });

    test('has its first size when the command starts', async () => {
      // crun 1.8.1 starts it without the size that it is told, and the daemon sets it a millisecond later.
      const command = handler === 'runc' ? ['stty', 'size'] : ['sh', '-c', 'sleep 0.2; stty size'];
      const url = await execUrl(node.client, id, command, { stdin: true, tty: true });
      const session = await openRemoteCommand(url, ['stdin', 'stdout', 'resize']);
      session.resize?.send('{"Width":91,"Height":37}\n');
      assert.equal(await session.stdout?.text, '37 91\r\n');
    });

    test('ends with the command although a child keeps the output open', async () => {
      const begin = Date.now();
      const url = await execUrl(node.client, id, ['sh', '-c', 'sleep 321 & echo started; exit 6']);
      const session = await openRemoteCommand(url, ['stdout', 'stderr']);
      assert.equal(await session.error.text, exitStatus(6));
      assert.equal(await session.stdout?.text, 'started\n');
      assert.ok(Date.now() - begin < 5000);
    });

    test('ends its processes when the client goes away', async () => {
      for (const tty of [false, true]) {
        const url = await execUrl(node.client, id, ['sh', '-c', 'sleep 322 & sleep 323'], { tty });
        const session = await openRemoteCommand(url, tty ? ['stdout', 'resize'] : ['stdout', 'stderr']);
        await waitFor('the command', 5000, async () => /sleep 323/.test(await processes(id)) || undefined);
        session.client.transport.destroy();
        await noProcess(id, /sleep 32[23]/);
      }
    });

    test('lets a client that does not read wait, and ends with it', async () => {
      const session = await openRemoteCommand(await execUrl(node.client, id, ['yes']), ['stdout', 'stderr']);
      session.client.transport.pause();
      await sleep(300);
      const before = residentKiB(node.daemon.pid());
      await sleep(1000);
      assert.ok(residentKiB(node.daemon.pid()) - before < 8192);
      session.client.transport.destroy();
      await noProcess(id, /^yes/m);
    });

    test('is ended by the stop of its container', async () => {
      const containerId = await runContainer(node.client, pod, { name: 'stopped', command: ['sleep', '1000'] });
      const session = await openRemoteCommand(await execUrl(node.client, containerId, ['sleep', '500']), [
        'stdout',
        'stderr',
      ]);
      await sleep(300);
      await node.client.runtime.stopContainer({ containerId, timeout: 0n });
      assert.equal(await session.error.text, exitStatus(137));
    });
  });

  describe(`attach with ${handler}`, () => {
    let pod: Pod;
    before(async () => (pod = await runPod(node.client, { handler })));
    after(() => removePod(node.client, pod.id));

    test('serves several clients, and one that leaves does not disturb the container', async () => {
      const id = await runContainer(node.client, pod, { name: 'cat', command: ['cat'], config: { stdin: true } });
      const [one, two] = [
        await openRemoteCommand(await attachUrl(node.client, id), ['stdin', 'stdout', 'stderr']),
        await openRemoteCommand(await attachUrl(node.client, id), ['stdin', 'stdout', 'stderr']),
      ];
      await sleep(200);
      one.stdin?.send('first\n');
      await waitFor(
        'output at both',
        5000,
        () => (one.stdout?.received === 6 && two.stdout?.received === 6) || undefined,
      );
      one.stdin?.end();
      assert.equal(await one.error.text, success);
      two.client.transport.destroy();
      const three = await openRemoteCommand(await attachUrl(node.client, id), ['stdin', 'stdout', 'stderr']);
      await sleep(100);
      three.stdin?.send('third\n');
      await waitFor('output again', 5000, () => three.stdout?.received === 6 || undefined);
      three.client.goAway();
      await three.client.closed;
      assert.match(await processes(id), /^cat/m);
    });

    test('ends the input of a container that wants it once, and sees its end', async () => {
      const config = { stdin: true, stdinOnce: true };
      const id = await runContainer(node.client, pod, { name: 'once', command: ['cat'], config });
      const session = await openRemoteCommand(await attachUrl(node.client, id), ['stdin', 'stdout', 'stderr']);
      session.stdin?.send('only\n');
      session.stdin?.end();
      assert.equal(await session.stdout?.text, 'only\n');
      assert.equal(await session.error.text, success);
    });

    test('resizes the terminal and can be detached', async () => {
      const config = { stdin: true, tty: true };
      const id = await runContainer(node.client, pod, { name: 'tty', command: ['sh'], config });
      const session = await openRemoteCommand(await attachUrl(node.client, id, true), ['stdin', 'stdout', 'resize']);
      session.resize?.send('{"Width":77,"Height":33}');
      await sleep(300);
      session.stdin?.send('stty size\n');
      await waitFor('the size', 5000, () => (session.stdout?.received ?? 0) > 20 || undefined);
      session.stdin?.send(Buffer.of(0x10));
      await sleep(100);
      session.stdin?.send(Buffer.of(0x11));
      assert.equal(await session.error.text, success);
      assert.match((await session.stdout?.text) ?? '', /33 77/);
      assert.match(await processes(id), /^sh/m);
    });

    test('never lets the container wait for a client that does not read', async () => {
      const command = ['sh', '-c', 'sleep 1; yes | head -c 60000000; echo done >/tmp/done; sleep 1000'];
      const id = await runContainer(node.client, pod, { name: 'flood', command, config: { stdin: true } });
      const session = await openRemoteCommand(await attachUrl(node.client, id), ['stdin', 'stdout', 'stderr']);
      session.client.transport.pause();
      await waitFor(
        'the whole output',
        30_000,
        async () => (await execSync(node.client, id, ['cat', '/tmp/done'])).stdout === 'done\n' || undefined,
      );
      session.client.transport.destroy();
    });

    test('works before the start, and says why not after the end', async () => {
      const id = await createContainer(node.client, pod, { name: 'early', command: ['echo', 'hello'] });
      const session = await openRemoteCommand(await attachUrl(node.client, id), ['stdin', 'stdout', 'stderr']);
      await sleep(200);
      await node.client.runtime.startContainer({ containerId: id });
      assert.equal(await session.stdout?.text, 'hello\n');
      // The output ends before the exit is known; until then the container counts as running.
      await waitForExit(node.client, id);
      const late = await openRemoteCommand(await attachUrl(node.client, id), ['stdin', 'stdout', 'stderr']);
      assert.match(await late.error.text, /error attaching to container: .*is not created or running/);
    });
  });
}

describe('port-forward', () => {
  const pods: Pod[] = [];
  after(async () => {
    for (const pod of pods) await removePod(node.client, pod.id);
  });

  async function serve(command: string): Promise<Pod> {
    const pod = await runPod(node.client);
    pods.push(pod);
    const id = await runContainer(node.client, pod, { name: 'server', command: ['sh', '-c', command] });
    await waitForListener(node.client, id);
    return pod;
  }

  async function open(podSandboxId: string): Promise<SpdyClient> {
    return (await dialSpdy(await forwardUrl(node.client, podSandboxId), ['portforward.k8s.io'])).client;
  }

  async function openInTunnel(podSandboxId: string): Promise<SpdyClient> {
    return new SpdyClient(await openTunnel(await forwardUrl(node.client, podSandboxId), 'SPDY/3.1+portforward.k8s.io'));
  }

  async function pair(client: SpdyClient, port: number, requestid: string) {
    const error = client.open({ streamtype: 'error', port: String(port), requestid });
    error.end();
    const data = client.open({ streamtype: 'data', port: String(port), requestid });
    await data.replied;
    return { error, data };
  }

  test('passes a half-close on and gets the rest of the answer, in a tunnel too', async () => {
    const pod = await serve('exec nc -ll -p 8000 -e sh -c "cat; sleep 0.2; echo end"');
    for (const client of [await open(pod.id), await openInTunnel(pod.id)]) {
      const { error, data } = await pair(client, 8000, '0');
      data.send('question\n');
      data.end();
      assert.equal(await data.text, 'question\nend\n');
      assert.equal(await error.text, '');
      client.goAway();
      await client.closed;
    }
  });

  const webServer = (address: string) =>
    `mkdir /tmp/www; seq 20000 >/tmp/www/file; exec httpd -f -p ${address} -h /tmp/www`;
  const get = 'GET /file HTTP/1.0\r\n\r\n';

  test('serves 100 connections at once over one session, and then more, in a tunnel too', async () => {
    const pod = await serve(webServer('8000'));
    const direct = await open(pod.id);
    const tunnel = await openInTunnel(pod.id);
    for (const client of [direct, direct, tunnel]) {
      const all = await Promise.all(Array.from({ length: 100 }, (_, index) => pair(client, 8000, String(index))));
      for (const { data } of all) data.send(get);
      for (const { data, error } of all) {
        assert.match(await data.text, /\n1\n2\n3\n[^]*\n19999\n20000\n$/);
        assert.equal(await error.text, '');
        data.end();
      }
    }
    for (const client of [direct, tunnel]) client.goAway();
  });

  test('reaches a server that listens on IPv6 only', async () => {
    const pod = await serve(webServer('[::1]:8000'));
    const client = await open(pod.id);
    const { data } = await pair(client, 8000, '0');
    data.send(get);
    assert.match(await data.text, /\n20000\n$/);
    client.goAway();
  });

  test('says why a port cannot be reached, and serves the others', async () => {
    const pod = await serve('exec nc -ll -p 8000 -e echo here');
    const client = await open(pod.id);
    const closed = await pair(client, 8001, '0');
    assert.match(
      await closed.error.text,
      /^error forwarding port 8001 to pod [0-9a-f]{64}, uid : port forward into network namespace ".*": failed to connect to localhost:8001 inside namespace [0-9a-f]{64}: dial tcp4 127.0.0.1:8001: connect: connection refused$/,
    );
    const { data } = await pair(client, 8000, '1');
    assert.equal(await data.text, 'here\n');
    client.goAway();
    const gone = await open('f'.repeat(64));
    assert.match(await (await pair(gone, 80, '0')).error.text, /PodSandbox with ID starting with f+ not found/);
    gone.goAway();
  });
});
