import assert from 'node:assert/strict';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ContainerState, PodSandboxState } from '../../src/cri/gen/api_pb.ts';
import { openRemoteCommand } from '../../src/stream/testing/spdy-client.ts';
import type { CriClient } from '../client/client.ts';
import {
  containerStatus,
  createContainer,
  ensureImage,
  execSync,
  removeAllPods,
  removePod,
  runContainer,
  runPod,
  busybox,
  waitFor,
} from '../client/pods.ts';
import { attachUrl, execUrl } from '../client/sessions.ts';
import { startDaemon, type Daemon } from '../run/daemon.ts';
import { assertNothingLeft } from '../run/inside-world.ts';
import { handlers } from './environment.ts';

let daemon: Daemon;
before(async () => {
  daemon = await startDaemon();
  await ensureImage(daemon.client, busybox);
});
after(async () => {
  await using running = daemon; // ends with the block, whatever fails in it
  await removeAllPods(running.client);
  await assertNothingLeft();
});

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  for (const handler of handlers) {
    test(`after ${signal} the same pods and containers are there, untouched (${handler})`, async () => {
      const { client } = daemon;
      const pod = await runPod(client, { handler, name: `kept-${handler}` });
      const stopped = await runPod(client, { handler, name: `stopped-${handler}` });
      await client.runtime.stopPodSandbox({ podSandboxId: stopped.id });
      const ticking = ['sh', '-c', 'while :; do echo tick; sleep 0.1; done'];
      const running = await runContainer(client, pod, { name: 'running', command: ticking });
      const created = await createContainer(client, pod, { name: 'created', command: ['sleep', '1000'] });
      const ends = await runContainer(client, pod, {
        name: 'ends',
        command: ['sh', '-c', 'while [ ! -e /dev/shm/end ]; do sleep 0.05; done; exit 9'],
      });
      const before = await world(daemon);
      let endedAt = 0;
      await daemon.restart(signal, async () => {
        const pid = Number((before.get(running) ?? '').split(' ').at(-1));
        assert.ok(isAlive(pid), 'the running container outlives the daemon');
        const shm = `/proc/${pid}/root/dev/shm/end`;
        writeFileSync(shm, '');
        endedAt = Date.now();
        await sleep(1500);
      });
      const ended = await containerStatus(client, ends);
      assert.equal(ended.state, ContainerState.CONTAINER_EXITED);
      assert.equal(ended.exitCode, 9);
      assert.ok(
        Math.abs(Number(ended.finishedAt / 1_000_000n) - endedAt) < 1200,
        'the time of the exit is that of the exit',
      );
      const after = await world(daemon);
      before.delete(ends);
      after.delete(ends);
      assert.deepEqual(after, before);
      assert.equal((await execSync(client, running, ['echo', 'hi'])).stdout, 'hi\n');
      await servesStreams(client, running);
      await client.runtime.startContainer({ containerId: created });
      assert.equal((await containerStatus(client, created)).state, ContainerState.CONTAINER_RUNNING);
      await client.runtime.stopContainer({ containerId: running, timeout: 0n });
      assert.equal((await containerStatus(client, running)).exitCode, 137);
      for (const { id } of [pod, stopped]) await removePod(client, id);
    });
  }
}

test('a pod whose network namespace and containers vanished while the daemon was down is removed without complaint', async () => {
  const { client } = daemon;
  const pod = await runPod(client);
  const id = await runContainer(client, pod, { command: ['sleep', '1000'] });
  const pid = await pidOf(daemon, id);
  await daemon.restart('SIGKILL', () => void process.kill(pid, 'SIGKILL'));
  await sleep(300);
  assert.equal((await containerStatus(client, id)).exitCode, 137);
  await removePod(client, pod.id);
});

/** Exec, attach and the rotation of the log, through a monitor that an earlier daemon has started. */
async function servesStreams(client: CriClient, containerId: string): Promise<void> {
  const exec = await openRemoteCommand(await execUrl(client, containerId, ['echo', 'hi']), ['stdout', 'stderr']);
  assert.equal(await exec.stdout?.text, 'hi\n');
  const attach = await openRemoteCommand(await attachUrl(client, containerId), ['stdin', 'stdout', 'stderr']);
  await waitFor('output', 5000, () => (attach.stdout?.received ?? 0) > 0 || undefined);
  attach.client.transport.destroy();
  const { logPath } = await containerStatus(client, containerId);
  renameSync(logPath, `${logPath}.1`);
  await client.runtime.reopenContainerLog({ containerId });
  await waitFor('a line in the new log', 5000, () => readFileSync(logPath, 'utf8').includes('tick') || undefined);
}

/** Pods and containers with what must survive a restart, by id. */
async function world({ client }: Daemon): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const { id, state, metadata, createdAt, labels } of (await client.runtime.listPodSandbox({})).items) {
    const { status } = await client.runtime.podSandboxStatus({ podSandboxId: id });
    const stateName = state === PodSandboxState.SANDBOX_READY ? 'ready' : 'notready';
    found.set(
      id,
      [
        stateName,
        metadata?.name,
        createdAt,
        JSON.stringify(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1))),
        status?.network?.ip,
      ].join(' '),
    );
  }
  for (const { id, state, metadata, createdAt, image, imageRef } of (await client.runtime.listContainers({}))
    .containers) {
    const pid = await pidOf({ client }, id);
    found.set(id, [state, metadata?.name, createdAt, image?.image, imageRef, pid].join(' '));
  }
  return found;
}

async function pidOf({ client }: Pick<Daemon, 'client'>, containerId: string): Promise<number> {
  const { info } = await client.runtime.containerStatus({ containerId, verbose: true });
  return (JSON.parse(info['info'] ?? '{}') as { pid?: number }).pid ?? 0;
}

function isAlive(pid: number): boolean {
  return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
}
