import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor } from '../client/pods.ts';
import { containerOf, get, idOf, isReady, listPods, waitForPod, type PodObject } from './api.ts';
import { exec } from './stream-client.ts';
import type { World } from './world.ts';

/** Those whose containers end and start by themselves. */
const restless = /^(crash|job|oom|broken)-/;
/** The kubelet looks at all containers each second. */
const severalLooksMs = 3500;

export function restartTests(world: () => World): void {
  describe('restart', () => {
    // First: its next collection of what is removed is a minute after its start.
    test('a kubelet that is started again takes its containers on', async () => {
      const before = containers(await listPods());
      await world().kubelet.restart();
      // It tells of its pods one by one.
      await waitFor('all pods', 60_000, async () =>
        containers(await listPods()).length === before.length ? true : undefined,
      );
      await waitForLooks();
      assert.deepEqual(containers(await listPods()), before);
    });

    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      test(`a daemon ended by ${signal} and started again changes no container`, async () => {
        const before = containers(await listPods());
        await world().daemon.restart(signal, () => sleep(severalLooksMs));
        await waitForLooks();
        assert.deepEqual(containers(await listPods()), before);
        await waitForPod('web', isReady);
        await using stream = exec({ program: world().client, transport: 'SPDY', pod: 'web', container: 'server' }, [
          'echo',
          'again',
        ]);
        assert.equal(await stream.exited, 0, stream.stderr());
      });
    }

    test('a container that ends while there is no daemon is the only one to be restarted', async () => {
      const before = await listPods();
      const pod = await waitForPod('probes', () => true);
      await world().daemon.restart('SIGKILL', () => void process.kill(initOf(idOf(pod, 'ready')), 'SIGKILL'));
      const after = await waitForPod(
        'probes',
        (each) => containerOf(each, 'ready').restartCount === 1 && containerOf(each, 'ready').ready,
      );
      assert.equal(containerOf(after, 'ready').lastState.terminated?.exitCode, 137);
      const others = (pods: readonly PodObject[]) =>
        containers(pods).filter((line) => !line.startsWith('probes-node1 ready '));
      assert.deepEqual(others(await listPods()), others(before));
    });

    test('the container that always fails has been restarted once more', async () => {
      await waitForPod('crash', (pod) => containerOf(pod, 'main').restartCount >= 2);
    });
  });
}

/** The process that the host would name. */
function initOf(containerId: string): number {
  const found = readdirSync('/proc').find((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return (
        readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(containerId) &&
        /^NSpid:.*\t1$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
      );
    } catch {
      return false; // ended meanwhile
    }
  });
  if (found === undefined) throw new Error(`find the first process of container "${containerId}": not there`);
  return Number(found);
}

/** Name, id and number of restarts of each container that should have none of its own. */
function containers(pods: readonly PodObject[]): string[] {
  return pods
    .filter(({ metadata }) => !restless.test(metadata.name))
    .flatMap(({ metadata, status }) =>
      [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])]
        .filter(({ containerID }) => containerID !== undefined)
        .map(({ name, containerID = '', restartCount }) => `${metadata.name} ${name} ${containerID} ${restartCount}`),
    )
    .toSorted();
}

/** Until the kubelet has looked at all containers again, several times. */
async function waitForLooks(): Promise<void> {
  await sleep(severalLooksMs);
  assert.equal(await get('/healthz'), 'ok');
}
