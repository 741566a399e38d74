import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { containerStatus, parseLog, removePod, runContainer, runPod, waitFor, waitForExit } from '../client/pods.ts';
import { failureOf, handlers, useDaemon } from './environment.ts';

const node = useDaemon();

for (const handler of handlers) {
  test(`the log with ${handler} has one line per entry, with stream and tag`, async () => {
    const { client } = node;
    const pod = await runPod(client, { handler });
    const id = await runContainer(client, pod, {
      command: ['sh', '-c', 'echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three'],
    });
    const { logPath } = await waitForExit(client, id);
    const entries = parseLog(readFileSync(logPath, 'utf8'));
    assert.deepEqual(
      entries.map((entry) => `${entry.stream} ${entry.tag} ${entry.text}`),
      ['stdout F one', 'stderr F two', 'stdout P three'],
    );
    assert.match(
      readFileSync(logPath, 'utf8'),
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) stdout F one$/m,
    );
    assert.equal(statSync(logPath).mode & 0o777, 0o600);
    await removePod(client, pod.id);
  });

  test(`the log with ${handler} is opened anew after a rotation`, async () => {
    const { client } = node;
    const pod = await runPod(client, { handler });
    const containerId = await runContainer(client, pod, {
      command: ['sh', '-c', 'while :; do echo tick; sleep 0.05; done'],
    });
    const { logPath } = await containerStatus(client, containerId);
    await waitFor('a first line', 5000, () => readFileSync(logPath, 'utf8').includes('tick'));
    renameSync(logPath, `${logPath}.1`);
    await client.runtime.reopenContainerLog({ containerId });
    assert.ok(existsSync(logPath));
    await waitFor('a line in the new file', 5000, () => readFileSync(logPath, 'utf8').includes('tick'));
    await client.runtime.stopContainer({ containerId, timeout: 0n });
    assert.match(
      (await failureOf(client.runtime.reopenContainerLog({ containerId }))).details,
      /container is not running/,
    );
    await removePod(client, pod.id);
  });
}
