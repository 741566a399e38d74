import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NamespaceMode } from '../../src/cri/gen/api_pb.ts';
import { removeAllPods, removePod, runPod, separateNamespaces } from '../client/pods.ts';
import { startDaemon, type Daemon } from '../run/daemon.ts';
import { assertNothingLeft } from '../run/inside-world.ts';
import { stageCgroup } from '../run/stage.ts';
import { handlers } from './environment.ts';

/** Kills the daemon at moments spread over the making of a pod, and compares the world before and after. */

let daemon: Daemon;
before(async () => {
  daemon = await startDaemon({ logLevel: 'info' });
  // The pause image is there afterwards, so that only the pod itself is interrupted below.
  await removePod(daemon.client, (await runPod(daemon.client)).id);
});
after(() => daemon[Symbol.asyncDispose]());

const moments = [10, 30, 60, 110];

const modes = [
  { name: 'its own PID namespaces', pid: NamespaceMode.CONTAINER },
  { name: 'a shared PID namespace', pid: NamespaceMode.POD },
];

for (const handler of handlers) {
  for (const { name, pid } of modes) {
    test(`a daemon killed while it makes a pod with ${name} leaves nothing behind (${handler})`, async () => {
      const { client } = daemon;
      for (const ms of moments) {
        const linux = {
          cgroupParent: `/${stageCgroup()}/crash-${ms}`,
          securityContext: { namespaceOptions: { ...separateNamespaces, pid } },
        };
        const making = runPod(client, { handler, config: { linux } }).catch(() => undefined);
        await sleep(ms);
        await daemon.restart('SIGKILL');
        const made = await making;
        const { items } = await client.runtime.listPodSandbox({});
        if (made !== undefined)
          assert.deepEqual(
            items.map(({ id }) => id),
            [made.id],
            `killed after ${ms} ms`,
          );
        await removeAllPods(client);
        await assertNothingLeft();
      }
    });
  }
}
