import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { after, before, test } from 'node:test';
import { putArtifact, putSchema1, startFakeRegistry } from '../../src/image/testing/fake-registry.ts';
import type { FakeRegistry } from '../../src/image/testing/fake-registry.ts';
import { buildTar } from '../../src/storage/testing/build-tar.ts';
import { waitFor } from '../client/pods.ts';
import { run } from '../fixtures/process.ts';
import { daemonFile, startDaemon } from '../run/daemon.ts';
import type { Daemon } from '../run/daemon.ts';
import { writeNodeFiles } from '../run/node-files.ts';
import { assertNoLeftovers, imageFaults } from './whole-store.ts';

/** Ends the daemon with SIGKILL in pulls of artifacts and of old images, and looks at what the next one makes of it. */

const graphRoot = '/var/lib/containers/storage';
const blobs = `${graphRoot}/artifacts/blobs/sha256`;
const content = 'blob '.repeat(100_000);
const files = { first: 'A', second: content, third: `${content}!` };
const environment: NodeJS.ProcessEnv = {};
let registry: FakeRegistry;
let daemon: Daemon;
let name = '';

before(async () => {
  registry = await startFakeRegistry();
  putArtifact(registry, 'files', '1', files);
  name = `${registry.host}/files:1`;
  writeNodeFiles(registry.host);
  daemon = await startDaemon({ env: environment, logLevel: 'info' });
});
after(async () => {
  await daemon[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

const pull = (image = name) => daemon.client.image.pullImage({ image: { image } });
const remove = (image = name) => daemon.client.image.removeImage({ image: { image } });
const listed = async () => (await daemon.client.image.listImages({})).images.flatMap(({ repoTags }) => repoTags);
const stored = () => (existsSync(blobs) ? readdirSync(blobs) : []);
const isDone = (file: keyof typeof files): boolean =>
  stored().some((hex) => registry.blobs.get(`sha256:${hex}`)?.toString() === files[file]);

/** Every blob of this content comes half, and then no more of it. */
function stallAt(...stalled: readonly string[]): void {
  registry.handle = (request, response: ServerResponse) => {
    const digest = /\/blobs\/(.*)$/.exec(request.url ?? '')?.[1] ?? '';
    const blob = registry.blobs.get(digest);
    if (blob === undefined || !stalled.includes(blob.toString())) return false;
    response.writeHead(200, { 'Content-Length': blob.length });
    response.write(blob.subarray(0, blob.length / 2));
    return true;
  };
}

async function assertWorks(): Promise<void> {
  await waitFor('an end of the clean-up', 10_000, () => (stored().length === 0 ? true : undefined)).catch(() =>
    assert.deepEqual(stored(), []),
  );
  assert.deepEqual(await listed(), []);
  await pull();
  assert.deepEqual(await listed(), [name]);
  assert.equal(stored().length, 5, 'manifest, config and files');
  await remove();
  assert.deepEqual(stored(), []);
}

async function crashAt(stage: string, act: () => Promise<unknown>): Promise<void> {
  environment['CRIO_CRASH_AT'] = stage;
  await daemon.restart('SIGTERM');
  delete environment['CRIO_CRASH_AT'];
  await assert.rejects(act(), /UNAVAILABLE/);
  await daemon.restart('SIGKILL');
}

test('a daemon killed before the blobs of an artifact leaves nothing', async () => {
  await crashAt('artifact blobs', () => pull());
  await assertWorks();
});

test('a daemon killed at the conversion of a schema 1 image leaves nothing, and the pull works again', async () => {
  const image = `${registry.host}/old:1`;
  putSchema1(registry, 'old', '1', buildTar([{ name: 'file', data: 'x' }]));
  for (const stage of ['image conversion', 'layers added']) {
    await crashAt(stage, () => pull(image));
    await assertNoLeftovers(graphRoot);
    await pull(image);
    assert.deepEqual(await imageFaults(graphRoot), []);
    await remove(image);
    await assertNoLeftovers(graphRoot);
  }
});

for (const [when, stalled] of [
  ['in the middle of all blobs', Object.values(files)],
  ['after the first blob', [files.second, files.third]],
  ['in the middle of the last blob', [files.third]],
] as const) {
  test(`a daemon killed ${when} of an artifact leaves nothing`, async () => {
    stallAt(...stalled);
    const pulling = pull().catch(() => undefined);
    const isReached = () =>
      stored().some((file) => file.startsWith('.tmp-')) &&
      (['first', 'second'] as const).every((file) => isDone(file) || stalled.some((text) => text === files[file]));
    await waitFor('the blobs to come', 10_000, () => (isReached() ? true : undefined));
    await daemon.restart('SIGKILL', () => assert.notDeepEqual(stored(), [], 'the kill came in the middle'));
    await pulling;
    registry.handle = () => false;
    await assertWorks();
  });
}

test('after an unclean stop a changed artifact is found, set aside, and pulled again', async () => {
  await pull();
  const changed = stored().find((hex) => registry.blobs.get(`sha256:${hex}`)?.toString() === content) ?? '';
  await daemon.restart('SIGKILL', () => {
    writeFileSync(`${blobs}/${changed}`, content.replaceAll('b', 'c'));
    assert.throws(() => run(daemonFile, ['check']), /images: 1/);
    run(daemonFile, ['check', '--quick']);
  });
  await waitFor('the damage to be found', 20_000, async () => ((await listed()).length === 0 ? true : undefined));
  await pull();
  assert.deepEqual(await listed(), [name]);
  await daemon.stop();
  run(daemonFile, ['check']);
});
