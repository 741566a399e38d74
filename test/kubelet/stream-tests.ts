import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { get } from 'node:http';
import { describe, test } from 'node:test';
import { containerOf, idOf, isReady, listPods, waitForPod } from './api.ts';
import { hostNetworkPort } from './pods.ts';
import { attach, exec, forward, transports } from './stream-client.ts';
import type { World } from './world.ts';

/** Exec, attach and port-forward, as kubectl does them. */
export function streamTests(world: () => World): void {
  for (const transport of transports) {
    const target = (pod: string, container: string) => ({ program: world().client, transport, pod, container });

    describe(`over ${transport}`, { concurrency: true }, () => {
      test('exec has separate outputs and an exit code', async () => {
        await waitForPod('web', isReady);
        await using stream = exec(target('web', 'server'), ['sh', '-c', 'echo out; echo error >&2; exit 42']);
        assert.equal(await stream.exited, 42);
        assert.match(stream.stderr(), /^error\n/);
        assert.equal(stream.stdout(), 'out\n');
      });

      test('exec says what cannot be started', async () => {
        await waitForPod('web', isReady);
        await using stream = exec(target('web', 'server'), ['/there-is-none']);
        assert.notEqual(await stream.exited, 0);
        assert.match(stream.stderr(), /there-is-none/);
      });

      test('exec passes 2 MiB on, in and out', async () => {
        await waitForPod('web', isReady);
        const bytes = randomBytes(1 << 20).toString('hex');
        await using stream = exec(target('web', 'server'), ['sh', '-c', 'tee /dev/stderr | sha256sum'], {
          stdin: true,
        });
        stream.write(bytes);
        stream.end();
        assert.equal(await stream.exited, 0);
        assert.equal(stream.stdout().split(' ')[0], sha256(bytes));
        assert.equal(sha256(stream.stderr()), sha256(bytes));
      });

      test('exec with a terminal has its size, the next one, and Ctrl-C', async () => {
        await waitForPod('web', isReady);
        const script = "trap 'stty size' WINCH; trap 'exit 5' INT; stty size; while :; do sleep 0.1; done";
        await using stream = exec(target('web', 'server'), ['sh', '-c', script], {
          stdin: true,
          tty: true,
          sizes: ['81x23', '132x41'],
        });
        await stream.expect(/23 81\r\n/);
        stream.resize();
        await stream.expect(/41 132\r\n$/);
        stream.write('\u0003');
        assert.equal(await stream.exited, 5);
      });

      test('attach reaches the stdin of a container, twice, and leaves it alone', async () => {
        const pod = await waitForPod('terminal', isReady);
        for (const word of [`${transport}-first`, `${transport}-second`]) {
          await using stream = attach(target('terminal', 'cat'), { stdin: true });
          stream.write(`${word}\n`);
          await stream.expect(new RegExp(`^${word}\n`, 'm'));
        }
        const after = (await listPods()).find(({ metadata }) => metadata.uid === pod.metadata.uid) ?? pod;
        assert.equal(idOf(after, 'cat'), idOf(pod, 'cat'));
        assert.equal(containerOf(after, 'cat').restartCount, 0);
      });

      test('attach to a terminal is a shell', async () => {
        await waitForPod('terminal', isReady);
        await using stream = attach(target('terminal', 'shell'), { stdin: true, tty: true, sizes: ['90x30'] });
        stream.write('echo $((6 * 7)) $(stty size)\n');
        await stream.expect(/^42 30 90\r\n/m);
      });

      test('port-forward carries several connections at once', async () => {
        await waitForPod('web', isReady);
        await using stream = exec(target('web', 'server'), ['sha256sum', '/www/big']);
        assert.equal(await stream.exited, 0);
        const expected = stream.stdout().split(' ')[0];
        await using forwarded = await forward(target('web', 'server'), 80);
        const bodies = await Promise.all(Array.from({ length: 4 }, () => fetchBytes(forwarded.localPort, '/big')));
        assert.deepEqual(
          bodies.map((body) => sha256(body)),
          bodies.map(() => expected),
        );
      });

      test('port-forward reaches a pod with the network of the host', async () => {
        await waitForPod('hostnet', isReady);
        await using forwarded = await forward(target('hostnet', 'main'), hostNetworkPort);
        assert.notEqual((await fetchBytes(forwarded.localPort, '/name')).length, 0);
      });
    });
  }
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

function fetchBytes(port: number, path: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () => resolve(Buffer.concat(parts)));
      response.on('error', reject);
    }).once('error', reject);
  });
}
