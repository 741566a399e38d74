import assert from 'node:assert/strict';
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { createContainer, execSync, removePod, runContainer, runPod, waitFor } from '../client/pods.ts';
import { run } from '../fixtures/process.ts';
import { startDaemon } from '../run/daemon.ts';
import type { Daemon, DaemonOptions } from '../run/daemon.ts';

/** What the real daemon makes of images that are damaged when it starts. */

const graphRoot = '/var/lib/containers/storage';
const image = 'registry.k8s.io/e2e-test-images/busybox:1.29-2';
const other = 'docker.io/library/busybox:latest';

async function start(t: TestContext, options: DaemonOptions = {}): Promise<Daemon> {
  const daemon = await startDaemon({ logLevel: 'info', ...options });
  t.after(() => daemon[Symbol.asyncDispose]());
  return daemon;
}

const pull = ({ client }: Daemon, name: string) => client.image.pullImage({ image: { image: name } });
const tags = async ({ client }: Daemon) =>
  (await client.image.listImages({})).images.flatMap(({ repoTags }) => repoTags);
const looked = (daemon: Daemon, times: number) =>
  waitFor('a look at all contents', 30_000, () =>
    daemon.log().split('looked at the contents of all images').length > times ? true : undefined,
  );

/** The top layer, which the other image does not have. */
async function topLayer({ client }: Daemon): Promise<{ readonly id: string; readonly folder: string }> {
  const { image: found } = await client.image.imageStatus({ image: { image } });
  const records: readonly { id: string; layer: string }[] = JSON.parse(
    readFileSync(`${graphRoot}/overlay-images/images.json`, 'utf8'),
  );
  const id = records.find((record) => record.id === found?.id)?.layer ?? '';
  return { id, folder: `${graphRoot}/overlay/${id}/diff` };
}

/** Changes a file of the layer. */
function harm(folder: string): string {
  const file = run('find', [folder, '-type', 'f', '-size', '+0']).split('\n').toSorted().find(Boolean) ?? '';
  writeFileSync(file, 'damage');
  return file;
}

test('after an unclean stop a damaged image is found while the daemon serves, set aside, and pulled again', async (t) => {
  const daemon = await start(t);
  for (const name of [image, other]) await pull(daemon, name);
  const pod = await runPod(daemon.client);
  const running = await runContainer(daemon.client, pod, { image, command: ['sleep', '1000'] });
  const { id, folder } = await topLayer(daemon);
  await daemon.restart('SIGKILL', () => void harm(folder));
  await looked(daemon, 1);
  const left = await tags(daemon);
  assert.ok(left.includes(other));
  assert.equal(left.includes(image), false);
  assert.equal((await daemon.client.image.imageStatus({ image: { image } })).image, undefined);
  await assert.rejects(
    daemon.client.runtime.createContainer({
      podSandboxId: pod.id,
      config: { metadata: { name: 'new', attempt: 0 }, image: { image }, logPath: 'new.log' },
      sandboxConfig: pod.config,
    }),
    new RegExp(`is damaged, pull it again: layer ${id}: ".*" has another content`),
  );
  assert.equal((await execSync(daemon.client, running, ['true'])).code, 0, 'what runs goes on');
  await pull(daemon, image);
  assert.ok((await tags(daemon)).includes(image));
  await createContainer(daemon.client, pod, { name: 'new', image });
  assert.equal((await execSync(daemon.client, running, ['true'])).code, 0);
  await removePod(daemon.client, pod.id);
  await daemon.stop();
  run('bin/crio', ['check']);
});

test('a damaged image can be removed by its name', async (t) => {
  const daemon = await start(t);
  await pull(daemon, image);
  const { folder } = await topLayer(daemon);
  await daemon.restart('SIGKILL', () => void harm(folder));
  await looked(daemon, 1);
  assert.equal((await tags(daemon)).includes(image), false);
  await daemon.client.image.removeImage({ image: { image } });
  assert.equal(existsSync(folder), false);
  assert.equal(readFileSync(`${graphRoot}/overlay-images/images.json`, 'utf8').includes(image), false);
});

test('after a clean stop the folders are looked at, not the contents; without internal_repair nothing is', async (t) => {
  const daemon = await start(t);
  await pull(daemon, image);
  const { id, folder } = await topLayer(daemon);
  const file = harm(folder);
  const isThere = async () => (await tags(daemon)).includes(image);
  await daemon.restart('SIGTERM');
  assert.equal(await isThere(), true);
  assert.ok(file.startsWith(folder));
  await daemon.restart('SIGTERM', () => truncateSync(`${graphRoot}/overlay/${id}/link`));
  await waitFor('the damage to be found', 20_000, async () => ((await isThere()) ? undefined : true));
  await pull(daemon, image);
  await daemon.stop();
  const blind = await start(t, { config: '[crio]\ninternal_repair = false\n' });
  await blind.restart('SIGKILL', () => truncateSync(`${graphRoot}/overlay/${id}/link`));
  assert.ok((await tags(blind)).includes(image));
  await blind.stop();
  assert.throws(() => run('bin/crio', ['check', '--quick']), /images: 1/);
  run('bin/crio', ['check', '--quick', '--repair']);
});
