import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ContainerState } from '../../src/cri/gen/api_pb.ts';
import {
  containerStatus,
  createContainer,
  execSync,
  removePod,
  runContainer,
  runPod,
  waitForExit,
  type Pod,
} from '../client/pods.ts';
import { failureOf, handlers, useDaemon } from './environment.ts';

const node = useDaemon();

for (const handler of handlers) {
  describe(`a container with ${handler}`, () => {
    let pod: Pod;
    before(async () => (pod = await runPod(node.client, { handler })));
    after(() => removePod(node.client, pod.id));

    test('is created, started, stopped and removed, each once and again', async () => {
      const { client } = node;
      const containerId = await createContainer(client, pod, { name: 'life', command: ['sleep', '1000'] });
      const created = await containerStatus(client, containerId);
      assert.equal(created.state, ContainerState.CONTAINER_CREATED);
      assert.ok(created.createdAt > 0n);
      assert.equal(created.startedAt, 0n);
      await client.runtime.startContainer({ containerId });
      const running = await containerStatus(client, containerId);
      assert.equal(running.state, ContainerState.CONTAINER_RUNNING);
      assert.ok(running.startedAt >= running.createdAt);
      const again = await failureOf(client.runtime.startContainer({ containerId }));
      assert.match(again.details, /is not in created state/);
      await client.runtime.stopContainer({ containerId, timeout: 1n });
      await client.runtime.stopContainer({ containerId, timeout: 1n });
      const stopped = await containerStatus(client, containerId);
      assert.equal(stopped.state, ContainerState.CONTAINER_EXITED);
      assert.ok(stopped.finishedAt >= stopped.startedAt);
      await client.runtime.removeContainer({ containerId });
      await client.runtime.removeContainer({ containerId });
      assert.equal((await failureOf(client.runtime.containerStatus({ containerId }))).code, 5);
    });

    for (const [command, code, reason] of [
      ['exit 0', 0, 'Completed'],
      ['exit 7', 7, 'Error'],
      ['exit 255', 255, 'Error'],
    ] as const) {
      test(`that ends with "${command}" has exit code ${code} and reason ${reason}`, async () => {
        const id = await runContainer(node.client, pod, { name: `exit-${code}`, command: ['sh', '-c', command] });
        const status = await waitForExit(node.client, id);
        assert.equal(status.exitCode, code);
        assert.equal(status.reason, reason);
      });
    }

    test('that uses more memory than its limit is OOMKilled', async () => {
      const id = await runContainer(node.client, pod, {
        name: 'oom',
        command: ['sh', '-c', 'sleep 0.5; x=a; while :; do x=$x$x; done'],
        config: { linux: { resources: { memoryLimitInBytes: 32n << 20n } } },
      });
      const status = await waitForExit(node.client, id);
      assert.equal(status.reason, 'OOMKilled');
      assert.equal(status.exitCode, 137);
    });

    test('gets TERM, and after the grace period KILL', async () => {
      const { client } = node;
      const polite = await runContainer(client, pod, {
        name: 'polite',
        command: ['sh', '-c', 'trap "exit 3" TERM; while :; do sleep 0.1; done'],
      });
      const deaf = await runContainer(client, pod, {
        name: 'deaf',
        command: ['sh', '-c', 'trap "" TERM; while :; do sleep 0.1; done'],
      });
      await client.runtime.stopContainer({ containerId: polite, timeout: 20n });
      assert.equal((await containerStatus(client, polite)).exitCode, 3);
      const begin = Date.now();
      await client.runtime.stopContainer({ containerId: deaf, timeout: 1n });
      assert.ok(Date.now() - begin < 5000);
      assert.equal((await containerStatus(client, deaf)).exitCode, 137);
    });

    test('is stopped right after its start although its handler was not set yet', async () => {
      const { client } = node;
      for (let round = 0; round < 3; round++) {
        const containerId = await runContainer(client, pod, {
          name: `young-${round}`,
          command: ['sh', '-c', 'trap "exit 4" TERM; while :; do sleep 0.05; done'],
        });
        await client.runtime.stopContainer({ containerId, timeout: 20n });
        assert.equal((await containerStatus(client, containerId)).exitCode, 4);
      }
    });

    test('that cannot start names the program and leaves its name free', async () => {
      const { client } = node;
      const options = { name: 'missing', command: ['/no/such/program'] };
      const attempt = async (): Promise<void> => {
        const containerId = await createContainer(client, pod, options);
        await client.runtime.startContainer({ containerId });
      };
      assert.match((await failureOf(attempt())).details, /no such file or directory|not found/i);
      assert.match((await failureOf(attempt())).details, /no such file or directory|not found/i);
    });

    test('runs what an exec asks for, with its output, code and limits', async () => {
      const { client } = node;
      const containerId = await runContainer(client, pod, { name: 'exec', command: ['sleep', '1000'] });
      assert.deepEqual(await execSync(client, containerId, ['sh', '-c', 'echo out; echo err >&2; exit 5']), {
        code: 5,
        stdout: 'out\n',
        stderr: 'err\n',
      });
      assert.equal((await execSync(client, containerId, ['sh', '-c', 'exit 255'])).code, 255);
      const big = await client.runtime.execSync({
        containerId,
        cmd: ['sh', '-c', 'yes | head -c 20000000'],
        timeout: 30n,
      });
      assert.ok(big.stdout.length > 1 << 20 && big.stdout.length <= 16 << 20, String(big.stdout.length));
      assert.deepEqual(await execSync(client, containerId, ['sleep', '30'], 1), {
        code: -1,
        stdout: '',
        stderr: 'command timed out',
      });
      assert.doesNotMatch((await execSync(client, containerId, ['ps'])).stdout, /sleep 30/);
      assert.match(
        (await failureOf(client.runtime.execSync({ containerId, cmd: [] }))).details,
        /exec command cannot be empty/,
      );
    });

    test('reports its use of CPU and memory', async () => {
      const { client } = node;
      const containerId = await runContainer(client, pod, {
        name: 'stats',
        command: ['sh', '-c', 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec sleep 1000'],
      });
      const { stats } = await client.runtime.containerStats({ containerId });
      assert.ok((stats?.cpu?.usageCoreNanoSeconds?.value ?? 0n) > 0n);
      assert.ok((stats?.memory?.workingSetBytes?.value ?? 0n) > 0n);
      assert.equal(stats?.attributes?.metadata?.name, 'stats');
      const all = await client.runtime.listContainerStats({ filter: { id: containerId } });
      assert.equal(all.stats.length, 1);
    });
  });
}

test('an unknown container is not found, and stopping or removing it succeeds', async () => {
  const { client } = node;
  const containerId = 'f'.repeat(64);
  assert.equal((await failureOf(client.runtime.containerStatus({ containerId }))).code, 5);
  assert.equal((await failureOf(client.runtime.startContainer({ containerId }))).code, 5);
  assert.equal((await failureOf(client.runtime.execSync({ containerId, cmd: ['true'] }))).code, 5);
  await client.runtime.stopContainer({ containerId });
  await client.runtime.removeContainer({ containerId });
});
