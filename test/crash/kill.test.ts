import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Registry } from '../fixtures/registry.ts';
import { startDaemon } from '../run/daemon.ts';
import type { Daemon } from '../run/daemon.ts';
import { crashImages, repackedImage, serveImages } from './images.ts';
import { assertNoLeftovers, imageFaults, leftovers, listedImages } from './whole-store.ts';

/** Ends the daemon with SIGKILL at every stage of a pull and of a removal, and looks at what the next one makes of it. */

const graphRoot = '/var/lib/containers/storage';
const [first, second] = crashImages();
const repacked = repackedImage();
const environment: NodeJS.ProcessEnv = {};
let registry: Registry;
let daemon: Daemon;

before(async () => {
  registry = await serveImages([first, second, repacked]);
  daemon = await startDaemon({ env: environment, logLevel: 'info' });
});
after(async () => {
  await daemon[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

const pull = (name: string) => daemon.client.image.pullImage({ image: { image: name } });
const remove = (name: string) => daemon.client.image.removeImage({ image: { image: name } });
const names = async () =>
  (await daemon.client.image.listImages({})).images.flatMap(({ repoTags }) => repoTags).toSorted();

/** Runs `act` in a daemon that ends itself at this stage; then the next daemon runs. */
async function crashAt(stage: string, act: () => Promise<unknown>): Promise<void> {
  environment['CRIO_CRASH_AT'] = stage;
  await daemon.restart('SIGTERM');
  delete environment['CRIO_CRASH_AT'];
  await assert.rejects(act(), /UNAVAILABLE/);
  await daemon.restart('SIGKILL', () => {
    if (halfDone.has(stage)) assert.notDeepEqual(leftovers(graphRoot), [], 'the kill came in the middle');
  });
}

/** Stages at which there is something on disk that is of no image. */
const halfDone = new Set([
  'image commit',
  'layers incomplete',
  'layers in place',
  'layers added',
  'image data written',
  'image data in place',
  'image update prepared',
  'image record removed',
  'image data removed',
  'layers marked',
  'layers moved away',
]);

/** What an interrupted operation left is deleted in the background. */
async function assertWhole(): Promise<void> {
  assert.deepEqual(await imageFaults(graphRoot), []);
  await assertNoLeftovers(graphRoot);
}

const pullStages = [
  'image manifest',
  'image policy',
  'image config',
  'image layers',
  'image commit',
  'layers incomplete',
  'layers in place',
  'layers added',
  'image data written',
  'image data in place',
  'image record written',
  'image done',
];

for (const stage of pullStages) {
  test(`a daemon killed at "${stage}" of a pull leaves nothing half done, and the pull works again`, async () => {
    await crashAt(stage, () => pull(first.name));
    await assertWhole();
    assert.deepEqual(await names(), listedImages(graphRoot).toSorted());
    await pull(first.name);
    await assertWhole();
    assert.deepEqual(await names(), [first.name]);
    await remove(first.name);
    await assertWhole();
    assert.deepEqual(await names(), []);
  });
}

for (const stage of ['image data written', 'image update prepared', 'image data in place', 'image record written']) {
  test(`a daemon killed at "${stage}" of a pull of the same image under another manifest leaves it whole`, async () => {
    await pull(first.name);
    await crashAt(stage, () => pull(repacked.name));
    await assertWhole();
    const left = stage === 'image data written' ? [first.name] : [first.name, repacked.name];
    assert.deepEqual(await names(), left.toSorted());
    await pull(repacked.name);
    await assertWhole();
    const { image } = await daemon.client.image.imageStatus({ image: { image: repacked.name } });
    assert.ok(image?.repoDigests.some((digest) => digest.endsWith(repacked.digest)));
    for (const { name } of [first, repacked]) await remove(name);
    await assertWhole();
    assert.deepEqual(await names(), []);
  });
}

const removalStages = [
  'image record removed',
  'image data removed',
  'layers marked',
  'layers moved away',
  'layers removed',
];

for (const stage of removalStages) {
  test(`a daemon killed at "${stage}" of a removal leaves nothing half done, and the other image whole`, async () => {
    await pull(first.name);
    await pull(second.name);
    await crashAt(stage, () => remove(first.name));
    await assertWhole();
    assert.deepEqual(await names(), [second.name]);
    await pull(first.name);
    await assertWhole();
    for (const { name } of [first, second]) await remove(name);
    await assertWhole();
    assert.deepEqual(await names(), []);
  });
}

test('a daemon killed at any time of two pulls leaves nothing half done', async () => {
  for (const ms of [15, 40, 70, 110, 160, 230]) {
    const pulls = [first, second].map(({ name }) => pull(name).catch(() => undefined));
    await sleep(ms);
    await daemon.restart('SIGKILL');
    await Promise.all(pulls);
    await assertWhole();
    for (const { name } of [first, second]) await remove(name);
    await assertWhole();
  }
});
