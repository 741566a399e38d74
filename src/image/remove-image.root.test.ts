import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import { openStore } from '../storage/open-store.ts';
import { buildImage, newImage } from '../storage/testing/build-image.ts';
import { acquireFileLock } from '../sys/lock.ts';
import { parseReference } from './reference.ts';
import { removeImage } from './remove-image.ts';

const own = 'example.org/own:1';
const pulled = 'example.org/pulled:1';

for (const names of [[own], [own, 'example.org/other:1']]) {
  test(`a name that a pull has given an image with ${names.length} names stays when another one is removed`, async (t) => {
    const base = mkdtempSync(`${tmpdir()}/remove-image-`);
    t.after(() => rmSync(base, { recursive: true }));
    const folders = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
    await using store = await openStore({ ...folders, driver: 'overlay', options: [], log: silentLog });
    const image = buildImage([]);
    for (const name of names) await store.images.put(newImage(image, undefined, name));
    const call = new Call({ name: 'test', id: '1', log: silentLog, signal: new AbortController().signal });
    // As podman does it: both wait for the store, the pull first.
    const held = await acquireFileLock(`${folders.graphRoot}/storage.lock`, 'write');
    const put = store.images.put(newImage(image, undefined, pulled));
    await sleep(100);
    const context = { store, volumeUser: undefined, beforeDelete: undefined };
    const removal = removeImage(context, call, { id: image.id, name: parseReference(own) });
    await sleep(50);
    held.release();
    await Promise.all([put, removal]);
    assert.deepEqual((await store.images.find(pulled))?.names, [pulled, ...names.filter((name) => name !== own)]);
  });
}
