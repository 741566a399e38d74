import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { constants, linkSync, readFileSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../base/errors.ts';
import { layerIds, storeImage } from '../testing/build-image.ts';
import { image, look, names, namesOf, setUp, sibling, storeAll } from '../testing/damage-world.ts';

test('a layer that is pulled again while its content is looked at is not marked again', async (t) => {
  const { base, store, diff } = await setUp(t);
  const [, top = ''] = await storeAll(store);
  unlinkSync(`${diff(top)}/srv/file`);
  await look(store, true);
  const held = await holdReader(`${base}/root/overlay-layers/${top}.tar-split.gz`);
  const looking = look(store, true);
  await held.isRead;
  await storeImage(store, image, 'example.org/image');
  await held.letGo();
  await looking;
  assert.equal(store.health.damageOf(image.id), undefined);
  assert.deepEqual(await namesOf(store), names.toSorted());
});

test('a layer whose names are made again while images are looked at is not marked again', async (t) => {
  const { base, store } = await setUp(t);
  await storeAll(store);
  const [, top = ''] = layerIds(store, sibling);
  truncateSync(`${base}/root/overlay/${top}/lower`);
  await look(store, false);
  // The first image that is looked at, after all layers.
  const held = await holdReader(`${base}/root/overlay-images/${image.id}/manifest`);
  const looking = look(store, false);
  await held.isRead;
  await storeImage(store, sibling, 'example.org/sibling');
  await held.letGo();
  await looking;
  assert.equal(store.health.damageOf(sibling.id), undefined);
  assert.deepEqual(await namesOf(store), names.toSorted());
});

test('an image that is marked is marked again only when more of it is damaged', async (t) => {
  const { base, store, diff, reopen } = await setUp(t);
  const [bottom = '', top = ''] = await storeAll(store);
  const mark = (id: string) => readFileSync(`${base}/root/overlay-images/${id}/crio-damage.json`, 'utf8');
  unlinkSync(`${diff(top)}/srv/file`);
  await look(store, true);
  const first = mark(image.id);
  // Finds the damage of the other image while this one has a mark.
  unlinkSync(`${diff(layerIds(store, sibling).at(-1) ?? '')}/other`);
  await look(store, true);
  assert.deepEqual(await namesOf(store), ['example.org/lonely']);
  const again = await reopen();
  await look(again, true);
  assert.equal(mark(image.id), first);
  unlinkSync(`${diff(bottom)}/etc/empty`);
  await look(again, true);
  assert.match(mark(image.id), new RegExp(bottom));
});

/** Puts a pipe in place of a file: whoever reads it waits until it is let go, also when another file takes the name. */
async function holdReader(path: string) {
  const data = readFileSync(path);
  unlinkSync(path);
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  const pipe = `${path}.pipe`;
  linkSync(path, pipe);
  const writer = openForReader(pipe);
  return {
    isRead: writer,
    async letGo() {
      await using file = await writer;
      unlinkSync(pipe);
      if (statSync(path).isFIFO()) {
        unlinkSync(path);
        writeFileSync(path, data);
      }
      await file.writeFile(data);
    },
  };
}

/** Waits until somebody has the pipe open for reading. */
async function openForReader(pipe: string): Promise<FileHandle> {
  for (let attempt = 0; attempt < 3000; attempt++) {
    try {
      return await open(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch (error) {
      if (!hasCode(error, 'ENXIO')) throw error;
      await sleep(10);
    }
  }
  throw new Error(`nobody reads "${pipe}"`);
}
