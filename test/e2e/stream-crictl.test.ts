import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crictlFor } from '../client/crictl.ts';
import { removePod, runContainer, runPod, waitFor, waitForListener } from '../client/pods.ts';
import { buildTools } from '../conformance/build.ts';
import { buildImages } from '../fixtures/build.ts';
import { useDaemon } from './environment.ts';

const node = useDaemon();
const { crictl } = buildTools((await buildImages('test')).digests);

const { start, run } = crictlFor(crictl, () => node.daemon.socket);

for (const transport of ['spdy', 'websocket']) {
  describe(`crictl over ${transport}`, () => {
    test('runs commands and reports how they end', async () => {
      const pod = await runPod(node.client);
      const id = await runContainer(node.client, pod, { name: 'exec', command: ['sleep', '1000'] });
      const exec = ['exec', '--transport', transport];
      assert.deepEqual(await run('', ...exec, id, 'sh', '-c', 'echo out; echo err >&2'), [0, 'out\n', 'err\n']);
      assert.deepEqual((await run('in\n', ...exec, '-i', id, 'cat')).slice(0, 2), [0, 'in\n']);
      const [code, , stderr] = await run('', ...exec, id, 'sh', '-c', 'exit 7');
      assert.equal(code, 1);
      assert.match(stderr, /exit code 7/);
      await removePod(node.client, pod.id);
    });

    test('attaches', async () => {
      const pod = await runPod(node.client);
      const config = { stdin: true, stdinOnce: true };
      const id = await runContainer(node.client, pod, { name: 'cat', command: ['cat'], config });
      assert.deepEqual((await run('typed\n', 'attach', '--transport', transport, '-i', id)).slice(0, 2), [
        0,
        'typed\n',
      ]);
      await removePod(node.client, pod.id);
    });

    test('forwards a port, many times over one session', async () => {
      const pod = await runPod(node.client);
      const command = ['sh', '-c', 'mkdir /tmp/www; echo page >/tmp/www/x; exec httpd -f -p 8000 -h /tmp/www'];
      const id = await runContainer(node.client, pod, { name: 'web', command });
      // A refused connection ends crictl's whole session.
      await waitForListener(node.client, id);
      const child = start('port-forward', '--transport', transport, pod.id, '18080:8000');
      const ended = new Promise((resolve) => child.once('exit', resolve));
      const isForwarded = () => fetch('http://127.0.0.1:18080/x').then(({ ok }) => ok || undefined);
      await waitFor('the forwarded port', 10_000, () => isForwarded().catch(() => undefined));
      for (let count = 0; count < 10; count++) {
        assert.equal(await (await fetch('http://127.0.0.1:18080/x')).text(), 'page\n');
      }
      child.kill('SIGINT');
      await ended;
      await removePod(node.client, pod.id);
    });
  });
}
