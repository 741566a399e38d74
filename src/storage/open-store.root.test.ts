import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { Logger, silentLog } from '../base/log.ts';
import { MS_BIND, mount, readMountInfo, umount } from '../sys/mount.ts';
import { openStore } from './open-store.ts';
import { removeTree } from './remove-tree.ts';
import type { NewContainer, Store } from './store.ts';
import { buildImage, layerIds, newImage, pieces, storeImage, unpackLayers } from './testing/build-image.ts';
import { removeWithMounts } from './testing/remove-with-mounts.ts';

interface World {
  readonly base: string;
  readonly log: string[];
  open(options?: { imageStore?: string; options?: readonly string[]; driver?: string }): Promise<Store>;
}

function setUp(t: TestContext): World {
  const base = mkdtempSync(`${tmpdir()}/store-`);
  const log: string[] = [];
  const logger = new Logger({ level: 'info', filter: undefined, format: 'text', write: (line) => void log.push(line) });
  const opened: Store[] = [];
  t.after(async () => {
    for (const store of opened) await store[Symbol.asyncDispose]();
    removeWithMounts(base);
  });
  return {
    base,
    log,
    async open({ imageStore = '', options = [], driver = 'overlay' } = {}) {
      const store = await openStore({
        graphRoot: `${base}/root`,
        runRoot: `${base}/run`,
        imageStore,
        driver,
        options,
        log: logger,
      });
      opened.push(store);
      return store;
    },
  };
}

const id = (letter: string) => letter.repeat(64);

function container(letter: string, change: Partial<NewContainer> = {}): NewContainer {
  return {
    id: id(letter),
    names: [`name-${letter}`],
    layerName: `name-${letter}-layer`,
    imageId: '',
    metadata: '{"pod-id":"x"}',
    mountLabel: '',
    uidMap: [],
    gidMap: [],
    ...change,
  };
}

const twoLayers = [
  [
    { name: 'etc/', type: '5', mode: 0o755 },
    { name: 'etc/a', data: 'base' },
    { name: 'etc/gone', data: 'x' },
  ],
  [{ name: 'etc/a', data: 'top' }, { name: 'etc/.wh.gone' }],
];
const image = buildImage(twoLayers);

test('a container is created, mounted, unmounted and deleted', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  await storeImage(store, image, 'example.org/a:1');
  const { layerId } = await store.containers.create(container('c', { imageId: image.id }));
  assert.equal(statSync(store.containers.directory(id('c'))).mode & 0o7777, 0o700);
  assert.equal(statSync(store.containers.runDirectory(id('c'))).mode & 0o7777, 0o700);
  const root = await store.containers.mount(id('c'));
  assert.equal(root, `${base}/root/overlay/${layerId}/merged`);
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  assert.equal(existsSync(`${root}/etc/gone`), false);
  assert.match(readMountInfo().find((mount) => mount.mountPoint === root)?.superOptions ?? '', /volatile/);
  writeFileSync(`${root}/new`, 'x');
  assert.deepEqual(readdirSync(store.containers.upperDirectory(id('c')) ?? ''), ['new']);
  assert.equal(await store.containers.mount(id('c')), root, 'again is fine');
  await store.containers.unmount(id('c'));
  await store.containers.unmount(id('c'));
  assert.deepEqual(readdirSync(root), []);
  assert.equal(readFileSync(`${base}/run/overlay-layers/mountpoints.json`, 'utf8'), '[]');
  await store.containers.mount(id('c'));
  writeFileSync(`${store.containers.directory(id('c'))}/config.json`, '{}');
  await store.containers.delete(id('c'));
  await store.containers.delete(id('c'));
  await store[Symbol.asyncDispose]();
  assert.deepEqual(await store.containers.list(), []);
  assert.equal(readdirSync(`${base}/root/overlay`).includes(layerId), false);
  assert.deepEqual(readdirSync(`${base}/root/overlay/tempdirs`), []);
  assert.deepEqual(readdirSync(`${base}/root/overlay/l`).length, 2);
  assert.deepEqual(readdirSync(`${base}/root/overlay-containers`).sort(), [
    'containers.lock',
    'volatile-containers.json',
  ]);
});

test('CVE-2021-41103, CVE-2024-25621: no other user reaches the folders of the store', async (t) => {
  const world = setUp(t);
  await world.open({ imageStore: `${world.base}/images` });
  for (const folder of ['root', 'run', 'images']) {
    assert.equal(statSync(`${world.base}/${folder}`).mode & 0o077, 0, folder);
  }
});

test('files on disk are as the format wants them', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  await storeImage(store, image, 'example.org/a:1');
  const [bottom = '', top = ''] = layerIds(store, image);
  const { layerId } = await store.containers.create(container('c', { imageId: image.id }));
  const layers = JSON.parse(readFileSync(`${base}/root/overlay-layers/layers.json`, 'utf8'));
  assert.deepEqual(Object.keys(layers[1]), [
    'id',
    'parent',
    'created',
    'compressed-diff-digest',
    'compressed-size',
    'diff-digest',
    'diff-size',
    'compression',
    'uidset',
    'gidset',
  ]);
  assert.deepEqual([layers[0].id, layers[1].parent, layers[1].compression], [bottom, bottom, 2]);
  const [record] = JSON.parse(readFileSync(`${base}/root/overlay-containers/volatile-containers.json`, 'utf8'));
  assert.deepEqual(record.flags, { MountLabel: '', ProcessLabel: '', Volatile: true });
  const [layer] = JSON.parse(readFileSync(`${base}/root/overlay-layers/volatile-layers.json`, 'utf8'));
  assert.deepEqual([layer.names, layer.parent], [['name-c-layer'], top]);
  const overlay = `${base}/root/overlay`;
  assert.equal(lstatSync(`${overlay}/${bottom}/diff`).mode & 0o7777, 0o555);
  assert.equal(existsSync(`${overlay}/${bottom}/empty`), true);
  const link = (layer: string) => readFileSync(`${overlay}/${layer}/link`, 'utf8');
  assert.equal(readFileSync(`${overlay}/${layerId}/lower`, 'utf8'), `l/${link(top)}:l/${link(bottom)}`);
  assert.equal(readFileSync(`${overlay}/.has-mount-program`, 'utf8'), 'false');
  assert.equal(statSync(`${base}/root/overlay-layers/${top}.tar-split.gz`).mode & 0o7777, 0o600);
  assert.deepEqual(readdirSync(`${base}/root/overlay-layers/tmp`), []);
});

test('an image is found by id, prefix and name, and its sizes come from records', async (t) => {
  const { open } = setUp(t);
  const store = await open();
  await storeImage(store, image, 'example.org/a:1');
  for (const key of [image.id, image.id.slice(0, 12), 'example.org/a:1'])
    assert.equal((await store.images.find(key))?.id, image.id);
  const layerBytes = image.layers.reduce((sum, layer) => sum + layer.tar.length, 0);
  assert.equal(await store.images.size(image.id), layerBytes + image.config.length + 2 * image.manifest.length);
  assert.deepEqual((await store.layers.usage()).imageRoot, { bytes: layerBytes, inodes: 6 });
  assert.deepEqual(await store.images.readBigData(image.id, 'manifest'), image.manifest);
  assert.equal(await store.images.readBigData(image.id, 'nothing'), undefined);
});

test('a name moves from one image to the other and stays in its history', async (t) => {
  const { open } = setUp(t);
  const store = await open();
  const other = buildImage([[{ name: 'f', data: 'other' }]]);
  await storeImage(store, image, 'example.org/a:1');
  await storeImage(store, other, 'example.org/a:1');
  const before = await store.images.find(image.id);
  assert.deepEqual([before?.names, before?.namesHistory], [[], ['example.org/a:1']]);
  await store.images.changeNames(image.id, () => ['example.org/a:1', 'example.org/b']);
  assert.deepEqual((await store.images.find(other.id))?.names, []);
});

test('layers go with the last image or container that needs them', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  const [bottomEntries, topEntries] = [[{ name: 'f', data: 'same' }], [{ name: 'g', data: 'more' }]];
  const small = buildImage([bottomEntries]);
  const large = buildImage([bottomEntries, topEntries]);
  await storeImage(store, small, 'example.org/small');
  await storeImage(store, large, 'example.org/large');
  const [bottom = '', top = ''] = layerIds(store, large);
  await store.containers.create(container('c', { imageId: small.id }));
  await assert.rejects(store.images.delete(small.id), /image used by c+: image is in use by a container/);
  await store.images.delete(large.id);
  assert.equal(await store.layers.find(top), undefined);
  assert.ok(await store.layers.find(bottom));
  await store.containers.delete(id('c'));
  await store.images.delete(small.id);
  await store.images.delete(small.id);
  await store[Symbol.asyncDispose]();
  assert.equal(readFileSync(`${base}/root/overlay-layers/layers.json`, 'utf8'), '[]');
  assert.deepEqual(readdirSync(`${base}/root/overlay`).sort(), ['.has-mount-program', 'l', 'tempdirs']);
  assert.deepEqual(readdirSync(`${base}/root/overlay/l`), []);
});

test('a layer that several callers want is unpacked once', async (t) => {
  const { open } = setUp(t);
  const store = await open();
  const [layer] = image.layers;
  assert.ok(layer);
  let reads = 0;
  const blob = async function* () {
    reads += 1;
    yield* pieces(layer.blob, 100);
  };
  const options = {
    parent: undefined,
    diffId: layer.diffId,
    blobDigest: layer.blobDigest,
    blobSize: undefined,
    signal: new AbortController().signal,
  };
  const records = await Promise.all([1, 2, 3].map(() => store.layers.unpack({ ...options, blob: blob() })));
  assert.equal(reads, 1);
  assert.equal(new Set(records.map((record) => record.id)).size, 1);
});

test('a broken blob leaves nothing behind, and another caller uses its own', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  const [layer] = image.layers;
  assert.ok(layer);
  const options = {
    parent: undefined,
    diffId: layer.diffId,
    blobDigest: layer.blobDigest,
    blobSize: undefined,
    signal: new AbortController().signal,
  };
  const failing = async function* () {
    yield layer.blob.subarray(0, 50);
    throw new Error('connection reset');
  };
  const [first, second] = await Promise.allSettled([
    store.layers.unpack({ ...options, blob: failing() }),
    store.layers.unpack({ ...options, blob: pieces(layer.blob) }),
  ]);
  assert.match(first.status === 'rejected' ? String(first.reason) : '', /connection reset/);
  assert.equal(second.status, 'fulfilled');
  await store.layers.sync(second.value.id);
  await assert.rejects(
    store.layers.unpack({ ...options, diffId: `sha256:${id('a')}`, blob: pieces(layer.blob) }),
    /diffID is sha256:.* expected sha256:a/,
  );
  await assert.rejects(
    store.layers.unpack({ ...options, parent: id('e'), blobDigest: `sha256:${id('b')}`, blob: pieces(layer.blob) }),
    /blob digest is sha256:.* expected sha256:b/,
  );
  await assert.rejects(
    store.layers.unpack({ ...options, parent: id('d'), blobSize: 60, blob: pieces(layer.blob, 50) }),
    /larger than the 60 bytes/,
  );
  const abort = new AbortController();
  const endless = async function* () {
    yield layer.blob.subarray(0, 50);
    await new Promise(() => undefined);
  };
  const waiting = store.layers.unpack({ ...options, parent: id('f'), blob: endless(), signal: abort.signal });
  setTimeout(() => abort.abort(new Error('caller left')), 50);
  await assert.rejects(waiting, /caller left/);
  // What was deleted is swept a second later.
  const folder = `${base}/root/overlay/tempdirs`;
  for (let tries = 0; tries < 40 && readdirSync(folder).length > 0; tries++) await sleep(100);
  assert.deepEqual(readdirSync(folder), []);
  assert.deepEqual(readdirSync(`${base}/root/overlay-layers/tmp`), []);
});

test('unpacked layers are in the index only after sync', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  const [layer] = image.layers;
  assert.ok(layer);
  const signal = new AbortController().signal;
  const record = await store.layers.unpack({
    parent: undefined,
    diffId: layer.diffId,
    blobDigest: undefined,
    blobSize: undefined,
    blob: pieces(layer.blob),
    signal,
  });
  assert.equal(existsSync(`${base}/root/overlay-layers/layers.json`), false);
  assert.deepEqual(await store.layers.find(record.id), record);
  await store.layers.sync(record.id);
  assert.match(readFileSync(`${base}/root/overlay-layers/layers.json`, 'utf8'), new RegExp(record.id));
  await assert.rejects(store.images.put(newImage(image, id('d'), 'x')), /layer "d+" is not in storage/);
});

test('sync adds the layers of one image, and leaves those of a pull that still runs', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  const other = buildImage([[{ name: 'other', data: 'o' }]]);
  const [mine, others] = [await unpackLayers(store, image), await unpackLayers(store, other)];
  const indexed = (): string[] =>
    JSON.parse(readFileSync(`${base}/root/overlay-layers/layers.json`, 'utf8')).map(
      (layer: { id: string }) => layer.id,
    );
  await store.layers.sync(mine.at(-1));
  assert.deepEqual(indexed().toSorted(), mine.toSorted());
  await store.layers.discard(others);
  assert.equal(await store.layers.find(others[0] ?? ''), undefined);
  assert.deepEqual(readdirSync(`${base}/root/overlay-layers/tmp`), []);
});

test('what interrupted operations left is cleaned up at open', async (t) => {
  const { base, log, open } = setUp(t);
  const first = await open();
  await storeImage(first, image, 'example.org/a:1');
  await first.containers.create(container('c', { imageId: image.id }));
  await first[Symbol.asyncDispose]();
  const layersFile = `${base}/root/overlay-layers/layers.json`;
  const records = JSON.parse(readFileSync(layersFile, 'utf8'));
  writeFileSync(layersFile, JSON.stringify([...records, { id: id('1'), flags: { incomplete: true } }]));
  for (const path of [
    `root/overlay/${id('1')}/diff`,
    `root/overlay/${id('2')}/diff`,
    `root/overlay/tempdirs/temp-dir-x/0-${id('3')}`,
    `root/overlay-layers/tmp/temp-dir-y`,
    `root/overlay-images/${id('4')}`,
    `root/overlay-containers/${id('5')}/userdata`,
    `run/overlay-containers/${id('6')}/userdata`,
  ]) {
    mkdirSync(`${base}/${path}`, { recursive: true });
  }
  for (const path of [
    `overlay/tempdirs/lock-x`,
    `overlay-layers/${id('1')}.tar-split.gz`,
    `overlay-images/.tmp-images.json123`,
  ]) {
    writeFileSync(`${base}/root/${path}`, '');
  }
  const store = await open();
  await store[Symbol.asyncDispose]();
  const left = readdirSync(base, { recursive: true, encoding: 'utf8' }).filter((path) =>
    /1{64}|2{64}|3{64}|4{64}|5{64}|6{64}|temp-dir|lock-x|\.tmp-/.test(path),
  );
  assert.deepEqual(left, []);
  assert.equal(JSON.parse(readFileSync(layersFile, 'utf8')).length, 2);
  assert.equal((await store.containers.list()).length, 1);
  assert.match(log.join(''), /incomplete: deleted/);
});

test('what other programs keep in the run root is left alone', async (t) => {
  const { base, open } = setUp(t);
  const first = await open();
  await first[Symbol.asyncDispose]();
  mkdirSync(`${base}/root/overlay/${id('7')}/diff`, { recursive: true });
  mkdirSync(`${base}/root/overlay-containers/${id('8')}`, { recursive: true });
  writeFileSync(`${base}/run/overlay-layers/volatile-layers.json`, JSON.stringify([{ id: id('7') }]));
  writeFileSync(
    `${base}/run/overlay-containers/volatile-containers.json`,
    JSON.stringify([{ id: id('8'), layer: id('7') }]),
  );
  await open();
  assert.ok(existsSync(`${base}/root/overlay/${id('7')}/diff`));
  assert.ok(existsSync(`${base}/root/overlay-containers/${id('8')}`));
});

test('large trees are deleted, and mounts in them are not deleted through', async (t) => {
  const { base } = setUp(t);
  for (let folder = 0; folder < 30; folder++) {
    mkdirSync(`${base}/tree/d${folder}`, { recursive: true });
    for (let file = 0; file < 100; file++) writeFileSync(`${base}/tree/d${folder}/f${file}`, '');
  }
  await removeTree(`${base}/tree`);
  assert.equal(existsSync(`${base}/tree`), false);
  mkdirSync(`${base}/tree/mounted`, { recursive: true });
  mkdirSync(`${base}/data`);
  writeFileSync(`${base}/data/precious`, 'x');
  mount(`${base}/data`, `${base}/tree/mounted`, 'none', MS_BIND);
  await assert.rejects(removeTree(`${base}/tree`), /it is a mount point/);
  await removeTree(`${base}/tree`, { detachMounts: true });
  assert.deepEqual([existsSync(`${base}/tree`), existsSync(`${base}/data/precious`)], [false, true]);
});

test('a tree that is deeper than any path is deleted', async (t) => {
  const { base } = setUp(t);
  mkdirSync(`${base}/tree`);
  const deeper = 'd='.concat('d'.repeat(250), '; for i in $(seq 30); do mkdir $d; cd -P $d; done; echo x > file');
  execFileSync('sh', ['-ec', deeper], { cwd: `${base}/tree` });
  await removeTree(`${base}/tree`);
  assert.equal(existsSync(`${base}/tree`), false);
});

test('unreadable records are set aside, and nothing is taken for garbage then', async (t) => {
  const { base, log, open } = setUp(t);
  const first = await open();
  await storeImage(first, image, 'example.org/a:1');
  await first[Symbol.asyncDispose]();
  const imagesFile = `${base}/root/overlay-images/images.json`;
  writeFileSync(imagesFile, readFileSync(imagesFile, 'utf8').slice(0, -20));
  const store = await open();
  assert.deepEqual(await store.images.list(), []);
  assert.ok(existsSync(`${base}/root/overlay-images/${image.id}/manifest`));
  assert.match(log.join(''), /unreadable records/);
  await storeImage(store, image, 'example.org/a:1');
  assert.equal((await store.images.list()).length, 1);
});

test('empty and missing index files are fine', async (t) => {
  const { base, open } = setUp(t);
  const first = await open();
  await first.containers.create(container('c'));
  await first[Symbol.asyncDispose]();
  writeFileSync(`${base}/root/overlay-layers/volatile-layers.json`, '');
  rmSync(`${base}/run`, { recursive: true });
  const store = await open();
  assert.equal((await store.containers.list()).length, 1);
  await store.containers.delete(id('c'));
  await store.containers.create(container('c'));
  assert.match(await store.containers.mount(id('c')), /merged$/);
});

test('a root file system that others detached is mounted again', async (t) => {
  const { open } = setUp(t);
  const store = await open();
  await store.containers.create(container('c'));
  const root = await store.containers.mount(id('c'));
  umount(root);
  await store.containers.mount(id('c'));
  assert.notEqual(
    readMountInfo().find((mount) => mount.mountPoint === root),
    undefined,
  );
});

test('chains of any length are mounted', async (t) => {
  const { open } = setUp(t);
  const store = await open();
  for (const length of [60, 200]) {
    const chain = buildImage(Array.from({ length }, (_, at) => [{ name: `f${length}-${at}`, data: 'x' }]));
    await storeImage(store, chain, `example.org/chain:${length}`);
    const letter = length === 60 ? 'a' : 'b';
    await store.containers.create(container(letter, { imageId: chain.id }));
    const root = await store.containers.mount(id(letter));
    assert.equal(readdirSync(root).length, length);
    await store.containers.unmount(id(letter));
  }
});

test('a container in a user namespace sees image files as its own', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  await storeImage(store, image, 'example.org/a:1');
  const map = [{ containerId: 0, hostId: 100_000, size: 65_536 }];
  const { layerId } = await store.containers.create(container('c', { imageId: image.id, uidMap: map, gidMap: map }));
  const root = await store.containers.mount(id('c'));
  assert.deepEqual([statSync(`${root}/etc/a`).uid, statSync(root).uid], [100_000, 100_000]);
  const folder = `${base}/root/overlay/${layerId}`;
  assert.deepEqual([lstatSync(`${folder}/diff`).uid, lstatSync(`${folder}/work`).uid], [100_000, 0]);
  assert.deepEqual(readdirSync(`${folder}/mapped`), ['0']);
  assert.deepEqual(
    readMountInfo().filter((mount) => mount.mountPoint.includes('/mapped/')),
    [],
  );
  const [record] = JSON.parse(readFileSync(`${base}/root/overlay-containers/volatile-containers.json`, 'utf8'));
  assert.deepEqual(record.uidmap, [{ container_id: 0, host_id: 100_000, size: 65_536 }]);
  await store.containers.delete(id('c'));
});

test('an image is mounted read-only on any folder', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  await storeImage(store, image, 'example.org/a:1');
  mkdirSync(`${base}/volume`);
  const undo = await store.layers.mountReadOnly(layerIds(store, image).at(-1) ?? '', `${base}/volume`);
  assert.equal(readFileSync(`${base}/volume/etc/a`, 'utf8'), 'top');
  assert.throws(() => writeFileSync(`${base}/volume/new`, 'x'), /EROFS/);
  await undo();
  assert.deepEqual(readdirSync(`${base}/volume`), []);
  const single = buildImage([[{ name: 'only', data: 'x' }]]);
  await storeImage(store, single, 'example.org/single');
  const undoSingle = await store.layers.mountReadOnly(layerIds(store, single).at(-1) ?? '', `${base}/volume`);
  assert.deepEqual(readdirSync(`${base}/volume`), ['only']);
  await undoSingle();
});

test('a container is mounted in the step that creates it', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  await storeImage(store, image, 'example.org/a:1');
  const { layerId } = await store.containers.create(container('c', { imageId: image.id, mount: true }));
  const root = store.containers.mountPoint(id('c'));
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  const counts = JSON.parse(readFileSync(`${base}/run/overlay-layers/mountpoints.json`, 'utf8'));
  assert.deepEqual(counts, [{ id: layerId, path: root, count: 1 }]);
  assert.equal(await store.containers.mount(id('c')), root);
  await store.containers.delete(id('c'));
  // A create that cannot mount leaves nothing: ids beyond what the kernel takes.
  const map = [{ containerId: 0, hostId: -5, size: 1 }];
  await assert.rejects(
    store.containers.create(container('d', { imageId: image.id, uidMap: map, gidMap: map, mount: true })),
  );
  assert.deepEqual(await store.containers.list(), []);
  assert.deepEqual(
    readdirSync(`${base}/root/overlay`)
      .filter((name) => name.length === 64)
      .toSorted(),
    layerIds(store, image).toSorted(),
  );
});

test('a second copy of a container is refused, and a failed create leaves nothing', async (t) => {
  const { base, open } = setUp(t);
  const store = await open();
  await store.containers.create(container('c'));
  await assert.rejects(store.containers.create(container('c', { names: ['other'], layerName: 'other' })), /exists/);
  await assert.rejects(store.containers.create(container('d', { names: ['name-c'] })), /name "name-c" is in use/);
  await assert.rejects(store.containers.create(container('d', { layerName: 'name-c-layer' })), /in use/);
  await assert.rejects(store.containers.create(container('e', { imageId: id('0') })), /is not in storage/);
  await assert.rejects(store.containers.create(container('f', { id: '../x' })), /not valid/);
  assert.equal((await store.containers.list()).length, 1);
  assert.equal(JSON.parse(readFileSync(`${base}/root/overlay-layers/volatile-layers.json`, 'utf8')).length, 1);
});

test('the vfs driver copies layers and applies changes', async (t) => {
  const { base, open } = setUp(t);
  const store = await open({ driver: 'vfs' });
  assert.equal(store.driverName, 'vfs');
  await storeImage(store, image, 'example.org/a:1');
  await store.containers.create(container('c', { imageId: image.id }));
  const root = await store.containers.mount(id('c'));
  assert.deepEqual([readFileSync(`${root}/etc/a`, 'utf8'), existsSync(`${root}/etc/gone`)], ['top', false]);
  assert.equal(store.containers.upperDirectory(id('c')), undefined);
  writeFileSync(`${root}/etc/a`, 'changed');
  await store.containers.create(container('d', { imageId: image.id }));
  assert.equal(readFileSync(`${await store.containers.mount(id('d'))}/etc/a`, 'utf8'), 'top');
  await store.containers.unmount(id('c'));
  for (const letter of ['c', 'd']) await store.containers.delete(id(letter));
  await store.images.delete(image.id);
  await store[Symbol.asyncDispose]();
  assert.deepEqual(readdirSync(`${base}/root/vfs/dir`), []);
});

test('image layers and records go to the image store, containers stay in the graph root', async (t) => {
  const { base, open } = setUp(t);
  const store = await open({ imageStore: `${base}/images` });
  await storeImage(store, image, 'example.org/a:1');
  const { layerId } = await store.containers.create(container('c', { imageId: image.id }));
  const root = await store.containers.mount(id('c'));
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  const [bottom = '', top = ''] = layerIds(store, image);
  for (const layer of [bottom, top]) {
    assert.ok(existsSync(`${base}/images/overlay/${layer}/diff`));
    assert.ok(existsSync(`${base}/root/overlay-layers/${layer}.tar-split.gz`));
  }
  assert.ok(existsSync(`${base}/root/overlay/${layerId}/diff`));
  assert.equal(JSON.parse(readFileSync(`${base}/images/overlay-layers/layers.json`, 'utf8')).length, 2);
  assert.ok(existsSync(`${base}/images/overlay-images/${image.id}/manifest`));
  await store.containers.delete(id('c'));
  await store.images.delete(image.id);
  await store[Symbol.asyncDispose]();
  assert.deepEqual(readdirSync(`${base}/images/overlay/l`), []);
});

/** A graph root with the image, as `<base>/other`; gives a look at all its names. */
async function fillOther(base: string): Promise<() => string[]> {
  const roots = { graphRoot: `${base}/other`, runRoot: `${base}/other-run`, imageStore: '' };
  await using other = await openStore({ ...roots, driver: 'overlay', options: [], log: silentLog });
  await storeImage(other, image, 'example.org/a:1');
  return () => readdirSync(`${base}/other`, { recursive: true, encoding: 'utf8' }).toSorted();
}

test('an image of an additional store is used, and never changed', async (t) => {
  const { base, open } = setUp(t);
  const namesIn = await fillOther(base);
  const before = namesIn();
  const store = await open({ options: [`overlay.imagestore=${base}/other`] });
  assert.equal((await store.images.find('example.org/a:1'))?.id, image.id);
  assert.deepEqual(
    (await store.images.list()).map((found) => found.id),
    [image.id],
  );
  assert.deepEqual(await store.images.readBigData(image.id, 'manifest'), image.manifest);
  assert.ok((await store.images.size(image.id)) > 4096);
  await store.containers.create(container('c', { imageId: image.id }));
  assert.equal(readFileSync(`${await store.containers.mount(id('c'))}/etc/a`, 'utf8'), 'top');
  const bigger = buildImage([[{ name: 'x', data: '1' }]]);
  await storeImage(store, bigger, 'example.org/b');
  await store.containers.delete(id('c'));
  await assert.rejects(store.images.delete(image.id), /additional image store/);
  assert.deepEqual(namesIn(), before);
});

test('a layer of our own whose folder is gone is not taken for that of an additional store', async (t) => {
  const { base, open } = setUp(t);
  const namesIn = await fillOther(base);
  const options = { options: [`overlay.imagestore=${base}/other`] };
  let store = await open();
  await storeImage(store, image, 'example.org/own');
  const [bottom = '', top = ''] = layerIds(store, image);
  await store[Symbol.asyncDispose]();
  const before = namesIn();
  rmSync(`${base}/root/overlay/${bottom}`, { recursive: true });
  store = await open(options);
  const damage = await store.health.check({ contents: true, maxAgeMs: 3_600_000 });
  assert.deepEqual([...damage.layers], [[bottom, 'its folder is missing']]);
  await store[Symbol.asyncDispose]();
  // As a removal leaves it that is cut short when the layers are moved away.
  const index = `${base}/root/overlay-layers/layers.json`;
  const records: object[] = JSON.parse(readFileSync(index, 'utf8'));
  writeFileSync(index, JSON.stringify(records.map((record) => ({ ...record, flags: { incomplete: true } }))));
  rmSync(`${base}/root/overlay/${top}`, { recursive: true });
  writeFileSync(`${base}/root/overlay-images/images.json`, '[]');
  store = await open(options);
  assert.deepEqual(JSON.parse(readFileSync(index, 'utf8')), []);
  await store[Symbol.asyncDispose]();
  assert.deepEqual(namesIn(), before);
});

test('an image over layers of an additional store that is gone is whole again when it was pulled', async (t) => {
  const { base, open } = setUp(t);
  const upper = buildImage([...twoLayers, [{ name: 'upper', data: 'x' }]]);
  await fillOther(base);
  let store = await open({ options: [`overlay.imagestore=${base}/other`] });
  await storeImage(store, upper, 'example.org/upper');
  const [, , top = ''] = layerIds(store, upper);
  await store[Symbol.asyncDispose]();
  assert.equal(readFileSync(`${base}/root/overlay-layers/layers.json`, 'utf8').split('"id"').length, 2);
  rmSync(`${base}/other`, { recursive: true });
  store = await open();
  const damaged = async () => [...(await store.health.check({ contents: true, maxAgeMs: 3_600_000 })).images.keys()];
  assert.deepEqual(await damaged(), [upper.id]);
  await storeImage(store, upper, 'example.org/upper');
  assert.deepEqual(await damaged(), []);
  await store.containers.create(container('c', { imageId: upper.id }));
  const root = await store.containers.mount(id('c'));
  assert.deepEqual(readdirSync(root).toSorted(), ['etc', 'upper']);
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  await store.containers.delete(id('c'));

  const names = `${base}/root/overlay/${top}/lower`;
  writeFileSync(names, readFileSync(names, 'utf8').replace(/\w{26}$/, 'A'.repeat(26)));
  const { layers } = await store.health.check({ contents: true, maxAgeMs: 3_600_000 });
  assert.deepEqual([...layers], [[top, `its list of lower layers names l/${'A'.repeat(26)}, which no layer has`]]);
});
