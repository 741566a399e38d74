import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { assertNoLeftovers } from '../../test/crash/whole-store.ts';
import { run } from '../../test/fixtures/process.ts';
import { messageOf } from '../base/errors.ts';
import { newId } from '../base/ids.ts';
import { silentLog } from '../base/log.ts';
import { readMountInfo } from '../sys/mount.ts';
import { openStore } from './open-store.ts';
import type { NewContainer, Store } from './store.ts';
import { buildImage, storeImage } from './testing/build-image.ts';
import { removeWithMounts } from './testing/remove-with-mounts.ts';

/** A store whose two roots share a file system of its own, in memory. */
async function setUp(t: TestContext): Promise<{ base: string; store: Store }> {
  const stack = new AsyncDisposableStack();
  t.after(() => stack.disposeAsync());
  const base = mkdtempSync(`${tmpdir()}/container-store-`);
  stack.defer(() => {
    removeWithMounts(base);
  });
  run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', base]);
  const roots = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
  const store = stack.use(await openStore({ ...roots, driver: 'overlay', options: [], log: silentLog }));
  return { base, store };
}

function newContainer(imageId: string): NewContainer {
  const id = newId();
  const settings = { metadata: '', mountLabel: '', uidMap: [], gidMap: [], mount: true };
  return { id, names: [id], layerName: `${id}-layer`, imageId, ...settings };
}

const image = buildImage([[{ name: 'f', data: 'x' }]]);

test('a disk that is full at any step of a create refuses the container, and nothing of it is left', async (t) => {
  const { base, store } = await setUp(t);
  await storeImage(store, image, 'example.org/a');
  const resize = (bytes: number) => void run('mount', ['-o', `remount,size=${bytes}`, base]);
  /** Mounts, and folders of layers and containers */
  const left = (): readonly string[] => [
    ...readMountInfo().flatMap(({ mountPoint }) => (mountPoint.startsWith(`${base}/`) ? [mountPoint] : [])),
    ...['root/overlay/l', 'root/overlay', 'root/overlay-containers', 'run/overlay-containers'].flatMap((folder) =>
      readdirSync(`${base}/${folder}`)
        .filter((name) => /^(?:[a-f0-9]{64}|[A-Z0-9]{26})$/.test(name))
        .map((name) => `${folder}/${name}`),
    ),
  ];
  const before = left();
  const refused = new Set<string>();
  let wentThrough = false;
  for (let pages = 0; !wentThrough; pages++) {
    assert.ok(pages < 40);
    const { blocks, bfree, bsize } = statfsSync(base);
    resize((blocks - bfree + pages) * bsize);
    const container = newContainer(image.id);
    try {
      await store.containers.create(container);
      wentThrough = true;
    } catch (error) {
      assert.match(messageOf(error), /ENOSPC/);
      refused.add(messageOf(error).replaceAll(/[a-f0-9]{16,}/g, '...'));
    }
    resize(64 * 2 ** 20);
    if (wentThrough) await store.containers.delete(container.id);
    assert.deepEqual(left(), before, `${pages} pages`);
    assert.deepEqual(await store.containers.list(), []);
  }
  for (const text of refused) t.diagnostic(text);
  const isSaveRefused = (text: string) => /^create container .* write ".*\.json": ENOSPC/.test(text);
  assert.ok([...refused].some(isSaveRefused));
  await assertNoLeftovers(`${base}/root`);
});

test('a container is not made on an image that is removed meanwhile, whose layers another image has', async (t) => {
  const { store } = await setUp(t);
  const [first, second] = [image, buildImage([[{ name: 'f', data: 'x' }]], ['/other'])];
  await storeImage(store, first, 'example.org/first');
  await storeImage(store, second, 'example.org/second');
  const creation = store.containers.create(newContainer(first.id));
  const [created] = await Promise.allSettled([creation, store.images.delete(first.id)]);
  assert.equal(await store.images.find(first.id), undefined);
  assert.match(created.status === 'rejected' ? messageOf(created.reason) : '', /^image ".*" is not in storage$/);
  assert.deepEqual(await store.containers.list(), []);
});
