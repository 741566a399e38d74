import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync, renameSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { NamespaceMode } from '../../src/cri/gen/api_pb.ts';
import { openChannels, type ChannelClient } from '../../src/stream/testing/websocket-client.ts';
import { crictlFor } from '../client/crictl.ts';
import {
  cgroupParent,
  containerStatus,
  execSync,
  removePod,
  runContainer,
  runPod,
  separateNamespaces,
  waitFor,
} from '../client/pods.ts';
import { attachUrl, execUrl } from '../client/sessions.ts';
import { usageOf, waitForUsage } from '../client/usage.ts';
import { buildTools } from '../conformance/build.ts';
import { buildImages } from '../fixtures/build.ts';
import { handlers, useDaemon } from './environment.ts';

const node = useDaemon();
const { crictl } = buildTools((await buildImages('test')).digests);
const { run } = crictlFor(crictl, () => node.daemon.socket);

test('an ExecSync that prints more than an answer can hold is cut, and crictl and the kubelet take the answer', async () => {
  const pod = await runPod(node.client);
  const id = await runContainer(node.client, pod, { name: 'loud', command: ['sleep', '1000'] });
  const [code, stdout, stderr] = await run('', 'exec', '-s', id, 'sh', '-c', 'yes | head -c 20000000');
  assert.deepEqual([code, stderr], [0, '']);
  // 16 MiB is what these clients take in all.
  assert.ok(stdout.length < 16 << 20 && stdout.length > 15 << 20, String(stdout.length));
  await removePod(node.client, pod.id);
});

test('two thousand ExecSyncs at once are all answered, others meanwhile too, and leave nothing', async () => {
  const { client, daemon } = node;
  const pod = await runPod(client);
  const id = await runContainer(client, pod, { name: 'busy', command: ['sleep', '1000'] });
  const other = await runContainer(client, pod, { name: 'other', command: ['sleep', '1000'] });
  await execSync(client, id, ['true']);
  const before = usageOf(daemon.pid());
  // The runtime was started from it.
  assert.ok('/memfd:runtime (deleted)' in before.descriptors, 'there is no sealed copy of the runtime');
  let [answered, lastMs] = [0, 0];
  const all = Array.from({ length: 2000 }, async (_, index) => {
    const { code, stdout } = await execSync(client, id, ['sh', '-c', `echo ${index}; exit ${index % 100}`], 0);
    assert.deepEqual([code, stdout], [index % 100, `${index}\n`]);
    answered++;
    lastMs = Date.now();
  });
  await waitFor('the first answers', 60_000, () => answered > 10);
  // By a process of its own: this one has its hands full.
  const endpoint = `unix://${daemon.socket}`;
  const script = '"$0" -t 60s -r "$1" -i "$1" exec -s "$2" echo hi && date +%s%3N';
  const { stdout } = await promisify(execFile)('sh', ['-c', script, crictl, endpoint, other]);
  await Promise.all(all);
  const [said, servedMs] = stdout.split('\n');
  assert.equal(said, 'hi');
  assert.ok(Number(servedMs) < lastMs, 'the other one waited for all');
  await waitForUsage(daemon.pid(), before);
  await removePod(client, pod.id);
});

for (const handler of handlers) {
  for (const [name, pid] of [
    ['its pod’s', NamespaceMode.POD],
    ['the node’s', NamespaceMode.NODE],
  ] as const) {
    test(`StopContainer ends every exec of a container in ${name} PID namespace (${handler})`, async () => {
      const { client } = node;
      const namespaceOptions = { ...separateNamespaces, pid };
      const pod = await runPod(client, {
        handler,
        config: { linux: { cgroupParent: cgroupParent('execs'), securityContext: { namespaceOptions } } },
      });
      const linux = { securityContext: { namespaceOptions } };
      const id = await runContainer(client, pod, { name: 'many', command: ['sleep', '4001'], config: { linux } });
      const piped = await openChannels(await execUrl(client, id, ['sleep', '4002']), 'v5.channel.k8s.io');
      const terminal = await openChannels(
        await execUrl(client, id, ['sleep', '4003'], { tty: true }),
        'v5.channel.k8s.io',
      );
      const sync = execSync(client, id, ['sleep', '4004'], 0);
      await execSync(client, id, ['sh', '-c', 'setsid sleep 4005 >/dev/null 2>&1 &']);
      const running = () => sleeping(/^sleep 400[1-5]$/);
      await waitFor('all five', 10_000, () => running().length === 5);
      await client.runtime.stopContainer({ containerId: id, timeout: 0n });
      assert.deepEqual(running(), []);
      assert.equal((await sync).code, 137);
      await Promise.all([piped.closed, terminal.closed]);
      await removePod(client, pod.id);
    });
  }
}

/** Command lines of this machine’s processes that match; without those that have ended. */
function sleeping(pattern: RegExp): string[] {
  const lines = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(commandLine);
  return lines.filter((line) => pattern.test(line)).toSorted();
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return ''; // it has ended
  }
}

test('a client that resizes its terminal without end hinders no rotation of the log', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const config = { tty: true, stdin: true };
  const id = await runContainer(client, pod, { name: 'tty', command: ['cat'], config });
  const sessions: ChannelClient[] = [];
  for (let count = 0; count < 3; count++) {
    sessions.push(await openChannels(await attachUrl(client, id, true), 'v5.channel.k8s.io'));
  }
  let width = 1;
  const resize = () => sessions.forEach((session) => session.send(4, `{"Width":${(width++ % 500) + 1},"Height":24}`));
  const timer = setInterval(resize, 5);
  const { logPath } = await containerStatus(client, id);
  for (let count = 0; count < 20; count++) {
    renameSync(logPath, `${logPath}.old`);
    await client.runtime.reopenContainerLog({ containerId: id });
  }
  clearInterval(timer);
  for (const { socket } of sessions) socket.terminate();
  await removePod(client, pod.id);
});
