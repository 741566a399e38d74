import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { execSync, removePod, runContainer, runPod, waitFor } from '../client/pods.ts';
import { failureOf, useDaemon } from './environment.ts';

const configFile = '/etc/crio/crio.conf';
const node = useDaemon();

async function reloadWith(text: string): Promise<void> {
  const count = () => node.daemon.log().split('Configuration reload completed').length;
  const before = count();
  writeFileSync(configFile, text);
  process.kill(node.daemon.pid(), 'SIGHUP');
  await waitFor('the reload', 10_000, () => count() > before || undefined);
}

async function handlers(): Promise<string[]> {
  const { runtimeHandlers } = await node.client.runtime.status({});
  return runtimeHandlers.map(({ name }) => name).toSorted();
}

test('SIGHUP brings new handlers and new folders, and containers keep the runtime that they have', async () => {
  const before = readFileSync(configFile, 'utf8');
  const pod = await runPod(node.client);
  const old = await runContainer(node.client, pod, { name: 'old', command: ['sleep', '1000'] });
  // The default handler gets another folder, and there is a new handler.
  const after = `${before.replace('runtime_root = "/run/crun"', 'runtime_root = "/run/crun-moved"')}
[crio.runtime.runtimes.extra]
runtime_path = "/usr/sbin/runc"
runtime_root = "/run/runc-extra"
monitor_path = "/usr/bin/conmon"
`;
  await reloadWith(after);
  await waitFor('the new handler', 10_000, async () => (await handlers()).includes('extra') || undefined);
  const extra = await waitFor('a pod of the new handler', 10_000, () => runPod(node.client, { handler: 'extra' }));
  const added = await runContainer(node.client, extra, { name: 'added', command: ['sleep', '1000'] });
  assert.ok(existsSync(`/run/runc-extra/${added}`));
  const young = await runContainer(node.client, pod, { name: 'young', command: ['sleep', '1000'] });
  assert.ok(existsSync(`/run/crun-moved/${young}`) && existsSync(`/run/crun/${old}`));
  for (const id of [old, young, added]) assert.equal((await execSync(node.client, id, ['echo', 'hi'])).stdout, 'hi\n');
  // A handler that is taken out is not offered any more; what it has goes on, and can be removed.
  await reloadWith(before);
  await waitFor('the end of the handler', 10_000, async () => !(await handlers()).includes('extra') || undefined);
  assert.match((await failureOf(runPod(node.client, { handler: 'extra' }))).details, /runtime handler extra/);
  for (const id of [old, young, added]) assert.equal((await execSync(node.client, id, ['echo', 'hi'])).stdout, 'hi\n');
  // The next daemon does not even find it in its configuration.
  await node.daemon.restart('SIGTERM');
  assert.ok(!(await handlers()).includes('extra'));
  for (const id of [old, young, added]) assert.equal((await execSync(node.client, id, ['echo', 'hi'])).stdout, 'hi\n');
  for (const { id } of [pod, extra]) await removePod(node.client, id);
  for (const path of [`/run/crun/${old}`, `/run/crun-moved/${young}`, `/run/runc-extra/${added}`]) {
    assert.ok(!existsSync(path), path);
  }
});
