import assert from 'node:assert/strict';
import { appendFileSync, readdirSync, readlinkSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../base/errors.ts';
import { acquireFileLock } from '../../sys/lock.ts';
import { buildImage, layerIds, newImage, storeImage, unpackLayers } from '../testing/build-image.ts';
import {
  createContainer,
  image,
  isClean,
  lonely,
  look,
  names,
  namesOf,
  noAge,
  setUp,
  sibling,
  storeAll,
} from '../testing/damage-world.ts';

test('what nothing uses is damage when it is old, and repair deletes it with the damaged images alone', async (t) => {
  const { store, diff } = await setUp(t);
  const [base = '', top = ''] = await storeAll(store);
  const stray = buildImage([[{ name: 'stray', data: 'z' }]]);
  const [id = ''] = await unpackLayers(store, stray);
  await store.layers.sync(id);
  assert.ok(isClean(await store.health.check({ contents: true, maxAgeMs: noAge })));
  unlinkSync(`${diff(top)}/srv/file`);
  const damage = await store.health.check({ contents: true, maxAgeMs: 0 });
  assert.deepEqual([...damage.layers.keys()].toSorted(), [id, top].toSorted());
  assert.deepEqual([...damage.images.keys()], [image.id]);
  await store.health.repair(damage, { containers: false });
  assert.deepEqual(await namesOf(store), ['example.org/lonely', 'example.org/sibling']);
  assert.ok(await store.layers.find(base));
  assert.equal(await store.layers.find(top), undefined);
  assert.ok(isClean(await store.health.check({ contents: true, maxAgeMs: 0 })));
});

test('an image in use is set aside by repair, which other processes see, and a pull mends it', async (t) => {
  const { store, diff, reopen } = await setUp(t);
  const ids = await storeAll(store);
  const user = 'a'.repeat(64);
  await createContainer(store, user, image.id);
  const [file, before] = [`${diff(ids[0] ?? '')}/bin/sh`, names.toSorted()];
  appendFileSync(file, 'x');
  assert.deepEqual(await namesOf(store), before);
  const checking = await reopen();
  for (const containers of [false, true]) {
    const damage = await checking.health.check({ contents: true, maxAgeMs: noAge });
    const repaired = await checking.health.repair(damage, { containers });
    assert.deepEqual(damage.names.get(image.id), ['example.org/image']);
    const users = [...repaired].map(([id, { usedBy }]) => [id, usedBy]);
    assert.deepEqual(users, [[image.id, user], ...(containers ? [] : [[sibling.id, undefined]])]);
  }
  // The store of the daemon, which is open all the time
  assert.equal(await store.images.find('example.org/image'), undefined);
  assert.deepEqual(await namesOf(store), ['example.org/lonely']);
  assert.match(store.health.damageOf(image.id) ?? '', /"bin\/sh"/);
  await assert.rejects(createContainer(store, 'b'.repeat(64), image.id), /pull it again/);
  await storeImage(store, image, 'example.org/image');
  assert.equal(statSync(file).size, 300_000);
  assert.deepEqual(layerIds(store, image), ids);
  assert.equal((await store.containers.list()).length, 1);
  for (const each of [store, checking]) {
    assert.equal((await each.images.find('example.org/image'))?.id, image.id);
    assert.ok(isClean(await each.health.check({ contents: true, maxAgeMs: 0 })));
  }
});

test('repair leaves what was pulled again, or came into use, since the check', async (t) => {
  const { store, diff, reopen } = await setUp(t);
  const [, top = ''] = await storeAll(store);
  const stray = buildImage([[{ name: 'stray', data: 'z' }], [{ name: 'more', data: 'z' }]]);
  const strayIds = await unpackLayers(store, stray);
  await store.layers.sync(strayIds.at(-1));
  unlinkSync(`${diff(top)}/srv/file`);
  await look(store, true);
  const checking = await reopen();
  const damage = await checking.health.check({ contents: true, maxAgeMs: 0 });
  assert.deepEqual([...damage.layers.keys()].toSorted(), [top, ...strayIds].toSorted());
  await storeImage(store, image, 'example.org/image');
  const [base] = strayIds;
  await store.images.put({ ...newImage(stray, base, 'example.org/stray') });
  await checking.health.repair(damage, { containers: false });
  assert.deepEqual(await namesOf(store), [...names, 'example.org/stray'].toSorted());
  assert.equal(await store.layers.find(strayIds[1] ?? ''), undefined, 'nothing uses it still');
  assert.ok(isClean(await store.health.check({ contents: true, maxAgeMs: 0 })));
});

test('repair deletes a damaged container when told to, if it is still damaged', async (t) => {
  const { base, store } = await setUp(t);
  await storeAll(store);
  const ids = ['a'.repeat(64), 'b'.repeat(64)];
  for (const id of ids) await createContainer(store, id, image.id);
  const folders = (await store.containers.list()).map(({ layerId }) => `${base}/root/overlay/${layerId}`);
  for (const folder of folders) renameSync(folder, `${folder}-away`);
  const damage = await store.health.check({ contents: false, maxAgeMs: noAge });
  assert.deepEqual([...damage.containers.keys()], ids);
  renameSync(`${folders[0] ?? ''}-away`, folders[0] ?? '');
  await store.health.repair(damage, { containers: true });
  assert.deepEqual(
    (await store.containers.list()).map(({ id }) => id),
    ids.slice(0, 1),
  );
});

test('repair does not delete a damaged layer that an image was stored on since the check', async (t) => {
  const { store, diff, reopen } = await setUp(t);
  const [id = ''] = await unpackLayers(store, lonely);
  await store.layers.sync(id);
  unlinkSync(`${diff(id)}/alone`);
  const checking = await reopen();
  const damage = await checking.health.check({ contents: true, maxAgeMs: noAge });
  await storeImage(store, lonely, 'example.org/lonely');
  await assert.rejects(
    checking.health.repair(damage, { containers: false }),
    /^CrioError: delete damaged layer "\w+": an image uses it by now$/,
  );
  assert.ok(await store.layers.find(id));
  const again = await checking.health.check({ contents: true, maxAgeMs: noAge });
  await checking.health.repair(again, { containers: false });
  assert.deepEqual([await namesOf(store), await store.layers.find(id)], [[], undefined]);
});

test('repair leaves an image that is being stored again while it waits for the locks', async (t) => {
  const { base, store, reopen } = await setUp(t);
  const ids = await storeAll(store);
  unlinkSync(`${base}/root/overlay-images/${image.id}/manifest`);
  const checking = await reopen();
  const damage = await checking.health.check({ contents: false, maxAgeMs: noAge });
  assert.deepEqual([...damage.images.keys()], [image.id]);
  // A transaction takes it after `storage.lock`.
  const path = `${base}/root/overlay-images/images.lock`;
  const held = await acquireFileLock(path, 'write');
  const storing = await untilWaiting(path, () => store.images.put(newImage(image, ids.at(-1), 'example.org/image')));
  const repairing = await untilWaiting(`${base}/root/storage.lock`, () =>
    checking.health.repair(damage, { containers: false }),
  );
  held.release();
  await Promise.all([storing.done, repairing.done]);
  assert.deepEqual(await namesOf(store), names.toSorted());
  assert.ok(await store.layers.find(ids.at(-1) ?? ''));
});

test('repair leaves a container that becomes whole while it waits for the locks', async (t) => {
  const { base, store } = await setUp(t);
  await storeAll(store);
  await createContainer(store, 'a'.repeat(64), image.id);
  const folder = `${base}/root/overlay/${(await store.containers.list())[0]?.layerId ?? ''}`;
  renameSync(folder, `${folder}-away`);
  const damage = await store.health.check({ contents: false, maxAgeMs: noAge });
  const path = `${base}/root/storage.lock`;
  const held = await acquireFileLock(path, 'write');
  const repairing = await untilWaiting(path, () => store.health.repair(damage, { containers: true }));
  renameSync(`${folder}-away`, folder);
  held.release();
  await repairing.done;
  assert.equal((await store.containers.list()).length, 1);
});

/** Starts work that waits for a lock which somebody holds: whoever waits has the file open. */
async function untilWaiting<T>(lockFile: string, start: () => Promise<T>): Promise<{ readonly done: Promise<T> }> {
  const before = timesOpen(lockFile);
  const done = start();
  for (let attempt = 0; attempt < 3000; attempt++) {
    if (timesOpen(lockFile) > before) return { done };
    await sleep(10);
  }
  throw new Error(`nobody waits for "${lockFile}"`);
}

function timesOpen(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }).length;
}
