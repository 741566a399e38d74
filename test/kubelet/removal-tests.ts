import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { PodSandboxState } from '../../src/cri/gen/api_pb.ts';
import { waitFor } from '../client/pods.ts';
import { listCgroups } from '../run/cgroups.ts';
import { assertNothingLeft } from '../run/inside-world.ts';
import { stageCgroup } from '../run/stage.ts';
import { listPods } from './api.ts';
import { hostFolder, pods } from './pods.ts';
import { removePod, type World } from './world.ts';

/** The kubelet removes sandboxes of deleted pods once a minute, and their folders of logs after them. */
const collectionMs = 150_000;

export function removalTests(world: () => World): void {
  describe('removal', () => {
    test('pods whose files are removed end, with their hooks', async () => {
      for (const name of Object.keys(pods)) removePod(name);
      const { runtime } = world().daemon.client;
      await waitFor('the end of all pods', 120_000, async () => {
        const { items } = await runtime.listPodSandbox({ filter: { state: { state: PodSandboxState.SANDBOX_READY } } });
        return items.length === 0 && list('/var/lib/kubelet/pods').length === 0 ? true : undefined;
      });
      assert.deepEqual(await listPods(), []);
      assert.equal(readFileSync(join(hostFolder, 'hooks'), 'utf8'), 'postStart\npreStop\nterm\n');
      // The kubelet takes a pod's cgroup away after its volumes, when it next looks.
      await waitFor('the removal of all cgroups of pods', 30_000, () => podCgroups().length === 0 || undefined);
    });

    test('nothing of them is left: containers, sandboxes, logs, mounts, addresses, namespaces', async () => {
      const { runtime } = world().daemon.client;
      await waitFor('the removal of all sandboxes', collectionMs, async () =>
        (await runtime.listPodSandbox({})).items.length === 0 ? true : undefined,
      );
      assert.deepEqual((await runtime.listContainers({})).containers, []);
      await waitFor('the removal of all logs', 30_000, () =>
        [...list('/var/log/pods'), ...list('/var/log/containers')].length === 0 ? true : undefined,
      );
      assert.deepEqual(kubeletMounts(), []);
      await assertNothingLeft();
    });
  });
}

function podCgroups(): string[] {
  return listCgroups().filter((path) => path.includes(`/${stageCgroup()}/kubepods`) && /\/pod[0-9a-f]/.test(path));
}

function kubeletMounts(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith('/var/lib/kubelet/pods/'));
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
