import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { podConfig, removePod, runPod } from '../client/pods.ts';
import { RuntimeService, ImageService } from '../../src/cri/gen/api_pb.ts';
import { serviceError } from '../client/client.ts';
import { failureOf, useDaemon } from './environment.ts';

const node = useDaemon();

test('every RPC answers an empty message with an answer or an error, and the daemon lives on', async () => {
  const { daemon, client } = node;
  const pid = daemon.pid();
  for (const service of [RuntimeService, ImageService]) {
    for (const method of service.methods) {
      if (method.methodKind !== 'unary') continue;
      await answerOrError(client.raw(`/${service.typeName}/${method.name}`, Buffer.alloc(0)));
    }
  }
  assert.ok(readFileSync(`/proc/${pid}/status`, 'utf8').includes('State:'));
  await client.runtime.version({});
});

test('bytes that are no message are an error, and the daemon lives on', async () => {
  const { client } = node;
  for (const bytes of ['ff', '0a', '0aff01', '0800', '0a02ffff', '0affffffff0f']) {
    await answerOrError(client.raw('/runtime.v1.RuntimeService/RunPodSandbox', Buffer.from(bytes, 'hex')));
    await answerOrError(client.raw('/runtime.v1.RuntimeService/CreateContainer', Buffer.from(bytes, 'hex')));
  }
  await client.runtime.version({});
});

test('a missing part of a request is named', async () => {
  const { client } = node;
  const { runtime, image } = client;
  const config = podConfig({});
  const cases: readonly [Promise<unknown>, RegExp][] = [
    [runtime.runPodSandbox({}), /config/i],
    [runtime.runPodSandbox({ config: {} }), /metadata/i],
    [
      runtime.runPodSandbox({ config: { ...config, metadata: { name: '', namespace: 'default', uid: 'u' } } }),
      /metadata\.Name should not be empty/i,
    ],
    [
      runtime.runPodSandbox({ config: { ...config, metadata: { name: 'n', namespace: '', uid: 'u' } } }),
      /cannot generate pod name without namespace/,
    ],
    [
      runtime.runPodSandbox({ config: { ...config, metadata: { name: 'n', namespace: 'd', uid: '' } } }),
      /cannot generate pod name without uid in metadata/,
    ],
    [runtime.createContainer({}), /config|sandbox/i],
    [
      runtime.createContainer({ podSandboxId: '', config: {}, sandboxConfig: config }),
      /metadata|PodSandboxId should not be empty/,
    ],
    [runtime.stopPodSandbox({ podSandboxId: '' }), /PodSandboxId should not be empty/],
    [runtime.execSync({ containerId: 'x' }), /exec command cannot be empty|could not find container/],
    [image.imageStatus({}), /no image specified/],
    [image.removeImage({}), /no image specified/],
    [image.pullImage({}), /image/i],
  ];
  for (const [call, pattern] of cases) assert.match((await failureOf(call)).details, pattern);
});

test('wrong values are refused with their name', async () => {
  const { runtime } = node.client;
  const config = podConfig({});
  assert.match(
    (await failureOf(runtime.runPodSandbox({ config, runtimeHandler: 'nothere' }))).details,
    /failed to find runtime handler nothere/,
  );
  assert.match(
    (await failureOf(runtime.runPodSandbox({ config: { ...podConfig({}), labels: { long: 'x'.repeat(5000) } } })))
      .details,
    /greater than maximum size \(4096 bytes\), key: long/,
  );
  assert.match(
    (await failureOf(runtime.podSandboxStatus({ podSandboxId: 'f'.repeat(64) }))).details,
    /could not find pod/,
  );
});

test('a container in an unknown pod is refused', async () => {
  const { runtime } = node.client;
  const config = { metadata: { name: 'c', attempt: 0 }, image: { image: 'x' } };
  const failure = await failureOf(
    runtime.createContainer({ podSandboxId: 'f'.repeat(64), config, sandboxConfig: podConfig({}) }),
  );
  assert.match(failure.details, /specified sandbox not found/);
});

test('a log folder that is no absolute path, and a missing image, are refused and leave nothing', async () => {
  const { client } = node;
  assert.ok(
    (await failureOf(client.runtime.runPodSandbox({ config: { ...podConfig({}), logDirectory: 'relative/path' } })))
      .details.length > 0,
  );
  const pod = await runPod(client);
  const config = { metadata: { name: 'c', attempt: 0 }, image: { image: 'registry.k8s.io/nothere:1' } };
  assert.ok(
    (await failureOf(client.runtime.createContainer({ podSandboxId: pod.id, config, sandboxConfig: pod.config })))
      .details.length > 0,
  );
  assert.deepEqual((await client.runtime.listContainers({ filter: { podSandboxId: pod.id } })).containers, []);
  await removePod(client, pod.id);
});

test('calls that are not built yet name themselves', async () => {
  const { client } = node;
  for (const name of ['checkpointPod', 'restorePod'] as const) {
    const failure = await failureOf(client.runtime[name]({}));
    assert.equal(failure.code, 12);
    assert.match(failure.details, new RegExp(name, 'i'));
  }
});

test('a client that waits for events is told that there are none', async () => {
  const failure = await failureOf(Array.fromAsync(node.client.runtime.getContainerEvents({})));
  assert.deepEqual([failure.code, failure.details], [12, 'GetContainerEvents: pod events are off (enable_pod_events)']);
});

async function answerOrError(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    const { details, code } = serviceError(error);
    assert.notEqual(code, 14, `the daemon answers: ${details}`);
    assert.doesNotMatch(details, /TypeError|undefined|at \S+ \(/, details);
  }
}
