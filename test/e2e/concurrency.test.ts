import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ContainerState } from '../../src/cri/gen/api_pb.ts';
import { containerConfig, ensureImage, execSync, podConfig, removePod, runContainer, runPod } from '../client/pods.ts';
import { serviceError } from '../client/client.ts';
import { failureOf, useDaemon } from './environment.ts';

const node = useDaemon();

test('ten clients each run and remove pods at the same time', async () => {
  const { client } = node;
  const one = async (name: string): Promise<string> => {
    const pod = await runPod(client, { name });
    const id = await runContainer(client, pod, { command: ['sleep', '1000'] });
    const { stdout } = await execSync(client, id, ['hostname']);
    const { status } = await client.runtime.podSandboxStatus({ podSandboxId: pod.id });
    assert.equal(stdout, `${name}\n`);
    await removePod(client, pod.id);
    return status?.network?.ip ?? '';
  };
  const addresses = await Promise.all(Array.from({ length: 10 }, (_, index) => one(`many-${index}`)));
  assert.equal(new Set(addresses).size, 10);
});

test('the same pod asked for twice at once is one pod, and a later request gets it too', async () => {
  const { client } = node;
  const config = podConfig({ name: 'twice' });
  const [first, second] = await Promise.all([
    client.runtime.runPodSandbox({ config }),
    client.runtime.runPodSandbox({ config }),
  ]);
  assert.equal(first.podSandboxId, second.podSandboxId);
  assert.equal((await client.runtime.runPodSandbox({ config })).podSandboxId, first.podSandboxId);
  const container = containerConfig({ command: ['sleep', '1000'] });
  const create = { podSandboxId: first.podSandboxId, config: container, sandboxConfig: config };
  const created = await Promise.all([client.runtime.createContainer(create), client.runtime.createContainer(create)]);
  assert.equal(created[0].containerId, created[1].containerId);
  await removePod(client, first.podSandboxId);
});

test('a caller that gives up does not end the operation; the retry gets its result', async () => {
  const { client } = node;
  const config = podConfig({ name: 'impatient' });
  const failure = await failureOf(client.runtime.runPodSandbox({ config }, { timeoutMs: 5 }));
  assert.equal(failure.code, 4);
  const { podSandboxId } = await client.runtime.runPodSandbox({ config });
  assert.equal((await client.runtime.listPodSandbox({ filter: { id: podSandboxId } })).items.length, 1);
  assert.equal(
    readdirSync('/var/lib/cni/networks/test').filter((name) => /^[0-9.]+$/.test(name)).length,
    1,
    'one address for one pod',
  );
  await removePod(client, podSandboxId);
});

test('one pull serves all who wait for the image', async () => {
  const { client } = node;
  const image = 'registry.k8s.io/e2e-test-images/nginx:1.14-2';
  const replies = await Promise.all(Array.from({ length: 8 }, () => client.image.pullImage({ image: { image } })));
  assert.equal(new Set(replies.map((reply) => reply.imageRef)).size, 1);
});

test('lists stay fast and right while containers come and go', async () => {
  const { client } = node;
  const pod = await runPod(client);
  await ensureImage(client, containerConfig({}).image?.image ?? '');
  let going = true;
  const churn = async (name: string): Promise<void> => {
    for (let round = 0; going; round++) {
      const containerId = await runContainer(client, pod, { name: `${name}-${round}`, command: ['sleep', '1000'] });
      await client.runtime.stopContainer({ containerId, timeout: 0n });
      await client.runtime.removeContainer({ containerId });
    }
  };
  const workers = [churn('a'), churn('b')];
  for (const end = Date.now() + 4000; Date.now() < end;) {
    const { containers } = await client.runtime.listContainers({ filter: { podSandboxId: pod.id } });
    assert.ok(containers.length <= 3);
    for (const item of containers) assert.notEqual(item.state, ContainerState.CONTAINER_UNKNOWN);
    await sleep(20);
  }
  going = false;
  await Promise.all(workers);
  await removePod(client, pod.id);
});

test('removing a pod while a container of it is being made ends with neither', async () => {
  const { client } = node;
  const pod = await runPod(client);
  const create = client.runtime.createContainer({
    podSandboxId: pod.id,
    config: containerConfig({ command: ['sleep', '1000'] }),
    sandboxConfig: pod.config,
  });
  const outcome = create.then(
    () => 'created',
    (error: unknown) => serviceError(error).details,
  );
  await removePod(client, pod.id);
  await outcome;
  assert.deepEqual((await client.runtime.listContainers({ filter: { podSandboxId: pod.id } })).containers, []);
  assert.deepEqual((await client.runtime.listPodSandbox({ filter: { id: pod.id } })).items, []);
});
