import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, silentLog } from '../../base/log.ts';
import { mount } from '../../sys/mount.ts';
import { lgetxattr } from '../../sys/xattr.ts';
import { openStore } from '../open-store.ts';
import type { Store } from '../store.ts';
import { buildImage, layerIds, storeImage } from '../testing/build-image.ts';
import {
  closeLater,
  createContainer,
  drivers,
  image,
  isClean,
  lonely,
  look,
  names,
  namesOf,
  noAge,
  setUp,
  shared,
  sibling,
  storeAll,
} from '../testing/damage-world.ts';
import type { World } from '../testing/damage-world.ts';

for (const driver of drivers) {
  test(`a sound store passes both checks (${driver})`, async (t) => {
    const { store } = await setUp(t, driver);
    await storeAll(store);
    for (const contents of [false, true]) assert.ok(isClean(await store.health.check({ contents, maxAgeMs: noAge })));
    await look(store, true);
    assert.deepEqual(await namesOf(store), names.toSorted());
  });
}

/** The same graph root, with an image store. */
async function openBesideImageStore({ base }: World): Promise<Store> {
  const roots = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: `${base}/images` };
  const store = await openStore({ ...roots, driver: 'overlay', options: [], log: silentLog });
  return closeLater(store);
}

test('layers in an image store and those beside it are looked at where they are', async (t) => {
  const world = await setUp(t);
  await storeImage(world.store, lonely, 'example.org/lonely');
  await world.store[Symbol.asyncDispose]();
  const store = await openBesideImageStore(world);
  await storeImage(store, image, 'example.org/image');
  assert.ok(isClean(await store.health.check({ contents: true, maxAgeMs: noAge })));
  const [, top = ''] = layerIds(store, image);
  writeFileSync(`${world.base}/images/overlay/${top}/diff/srv/file`, 'bad');
  await look(store, true);
  assert.equal(await store.images.find('example.org/image'), undefined);
  await storeImage(store, image, 'example.org/image');
  assert.ok(isClean(await store.health.check({ contents: true, maxAgeMs: noAge })));
});

test('a damaged layer that lies beside an image store on another disk is mended where it is', async (t) => {
  const world = await setUp(t);
  const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
  const layered = buildImage([
    shared,
    [
      { name: 'etc/', type: '5', mode: 0o750 },
      { name: 'etc/.wh..wh..opq' },
      { name: 'etc/.wh.empty' },
      { name: 'etc/own', data: 'own', uid: 7, pax: { 'SCHILY.xattr.security.capability': capability } },
    ],
  ]);
  await storeImage(world.store, layered, 'example.org/layered');
  const [bottom = '', top = ''] = layerIds(world.store, layered);
  await world.store[Symbol.asyncDispose]();
  mkdirSync(`${world.base}/images`);
  mount('images', `${world.base}/images`, 'tmpfs', 0, 'mode=0700');
  const store = await openBesideImageStore(world);
  await storeImage(store, layered, 'example.org/again');
  writeFileSync(`${world.diff(top)}/etc/own`, 'bad');
  await look(store, true);
  assert.equal(await store.images.find(layered.id), undefined);
  await storeImage(store, layered, 'example.org/again');
  assert.ok(await store.images.find(layered.id));
  assert.ok(isClean(await store.health.check({ contents: true, maxAgeMs: noAge })));
  const etc = `${world.diff(top)}/etc`;
  assert.deepEqual([statSync(etc).mode & 0o777, statSync(`${etc}/own`).uid], [0o750, 7]);
  assert.equal(lgetxattr(etc, 'trusted.overlay.opaque')?.toString(), 'y');
  assert.deepEqual(lgetxattr(`${etc}/own`, 'security.capability'), capability);
  assert.equal(existsSync(`${world.base}/images/overlay/${top}`), false);
  // Its short name is known from a layer in the image store alone.
  await storeImage(store, sibling, 'example.org/sibling');
  const home = `${world.base}/root/overlay`;
  unlinkSync(`${home}/l/${readFileSync(`${home}/${bottom}/link`, 'utf8')}`);
  unlinkSync(`${home}/${bottom}/link`);
  unlinkSync(`${home}/${top}/lower`);
  await look(store, false);
  await storeImage(store, layered, 'example.org/again');
  const target = `${world.base}/mnt`;
  mkdirSync(target);
  const unmount = await store.layers.mountReadOnly(layerIds(store, sibling)[1] ?? '', target);
  assert.equal(readFileSync(`${target}/etc/passwd`, 'utf8'), 'root:x:0:0\n');
  await unmount();
  assert.deepEqual(readdirSync(`${world.base}/root/overlay/tempdirs`), []);
});

interface Harm {
  readonly name: string;
  readonly reason: RegExp;
  /** Seen without reading the content */
  readonly isCheap: boolean;
  /** Whether all layers of the shared base are hit, or the upper one. */
  readonly hit: 'shared' | 'upper';
  readonly harm: (world: World, base: string, top: string) => void;
}

const harms: readonly Harm[] = [
  {
    name: 'its folder is gone',
    reason: /its folder is missing/,
    isCheap: true,
    hit: 'shared',
    harm: ({ base }, id) => rmSync(`${base}/root/overlay/${id}`, { recursive: true }),
  },
  {
    name: 'its content is gone',
    reason: /its content is missing/,
    isCheap: true,
    hit: 'upper',
    harm: ({ diff }, _id, top) => rmSync(diff(top), { recursive: true }),
  },
  {
    name: 'its short name is empty',
    reason: /its short name is missing/,
    isCheap: true,
    hit: 'shared',
    harm: ({ base }, id) => truncateSync(`${base}/root/overlay/${id}/link`),
  },
  {
    name: 'its list of lowers is empty',
    reason: /its list of lower layers is empty/,
    isCheap: true,
    hit: 'upper',
    harm: ({ base }, _id, top) => truncateSync(`${base}/root/overlay/${top}/lower`),
  },
  {
    name: 'a file has another content of the same size',
    reason: /"etc\/passwd" has another content/,
    isCheap: false,
    hit: 'shared',
    harm: ({ diff }, id) => writeFileSync(`${diff(id)}/etc/passwd`, 'root::00:0\n'),
  },
  {
    name: 'a file is cut short',
    reason: /"bin\/sh" has another content/,
    isCheap: false,
    hit: 'shared',
    harm: ({ diff }, id) => truncateSync(`${diff(id)}/bin/sh`, 100_000),
  },
  {
    name: 'a file has grown',
    reason: /"bin\/sh" has another content/,
    isCheap: false,
    hit: 'shared',
    harm: ({ diff }, id) => appendFileSync(`${diff(id)}/bin/sh`, 'x'),
  },
  {
    name: 'an empty file is missing',
    reason: /"etc\/empty" is missing/,
    isCheap: false,
    hit: 'shared',
    harm: ({ diff }, id) => unlinkSync(`${diff(id)}/etc/empty`),
  },
  {
    name: 'a link is missing',
    reason: /"bin\/bash" is missing/,
    isCheap: false,
    hit: 'shared',
    harm: ({ diff }, id) => unlinkSync(`${diff(id)}/bin/bash`),
  },
  {
    name: 'a link leads elsewhere',
    reason: /"bin\/bash" leads elsewhere/,
    isCheap: false,
    hit: 'shared',
    harm({ diff }, id) {
      unlinkSync(`${diff(id)}/bin/bash`);
      symlinkSync('ash', `${diff(id)}/bin/bash`);
    },
  },
  {
    name: 'a folder is a file',
    reason: /"srv\/" is of another kind/,
    isCheap: false,
    hit: 'upper',
    harm: ({ diff }, _id, top) => {
      rmSync(`${diff(top)}/srv`, { recursive: true });
      writeFileSync(`${diff(top)}/srv`, '');
    },
  },
  {
    name: 'a deletion is missing',
    reason: /"etc\/.wh.empty" is missing/,
    isCheap: false,
    hit: 'upper',
    harm: ({ diff }, _id, top) => unlinkSync(`${diff(top)}/etc/empty`),
  },
];

for (const { name, reason, isCheap, hit, harm } of harms) {
  test(`a layer is damaged when ${name}: its images are not there until they are pulled again`, async (t) => {
    const world = await setUp(t);
    const [base = '', top = ''] = await storeAll(world.store);
    harm(world, base, top);
    const checked = await world.store.health.check({ contents: !isCheap, maxAgeMs: noAge });
    assert.match([...checked.layers.values()].join(), reason);
    assert.equal(checked.images.size, hit === 'shared' ? 2 : 1);
    if (!isCheap) assert.ok(isClean(await world.store.health.check({ contents: false, maxAgeMs: noAge })));
    await look(world.store, !isCheap);
    const left = hit === 'shared' ? ['example.org/lonely'] : ['example.org/lonely', 'example.org/sibling'];
    assert.deepEqual(await namesOf(world.store), left);
    assert.match(world.store.health.damageOf(image.id) ?? '', reason);
    assert.equal(await world.store.images.find('example.org/image'), undefined);
    // The shared index still names it: other programs see no difference.
    assert.match(readFileSync(`${world.base}/root/overlay-images/images.json`, 'utf8'), new RegExp(image.id));
    const again = await world.reopen();
    assert.deepEqual(await namesOf(again), left, 'after a restart');
    await storeImage(again, image, 'example.org/image');
    assert.deepEqual(await namesOf(again), names.toSorted(), 'layers that are shared are repaired for all');
    assert.ok(isClean(await again.health.check({ contents: true, maxAgeMs: noAge })));
    assert.equal(existsSync(`${world.base}/root/overlay-images/${image.id}/crio-damage.json`), false);
    await checkMount(again, image.id);
  });
}

/** The image can be used, by its own layers and those below. */
async function checkMount(store: Store, imageId: string): Promise<void> {
  const id = 'c'.repeat(64);
  await createContainer(store, id, imageId);
  const root = await store.containers.mount(id);
  assert.equal(readFileSync(`${root}/etc/passwd`, 'utf8'), 'root:x:0:0\n');
  assert.equal(readFileSync(`${root}/srv/file`, 'utf8'), 'own');
  assert.equal(existsSync(`${root}/etc/empty`), false);
  await store.containers.unmount(id);
  await store.containers.delete(id);
}

test('images that share damaged layers are pulled again at the same time', async (t) => {
  const { store, diff } = await setUp(t);
  const [first, ...upper] = [shared, [{ name: 'middle', data: 'middle' }], [{ name: 'near', data: 'near' }]];
  const images = ['a', 'b', 'c'].map((name) => buildImage([first ?? [], ...upper, [{ name, data: name }]]));
  const storeEach = () => Promise.all(images.map((each) => storeImage(store, each, `example.org/${each.id}`)));
  await storeEach();
  for (const [at, file] of ['bin/sh', 'middle', 'near'].entries())
    writeFileSync(`${diff(layerIds(store, images[0] ?? image)[at] ?? '')}/${file}`, 'bad');
  await look(store, true);
  assert.deepEqual(await namesOf(store), []);
  await storeEach();
  assert.equal((await namesOf(store)).length, 3);
  assert.ok(isClean(await store.health.check({ contents: true, maxAgeMs: noAge })));
});

test('a layer of the vfs driver is pulled again', async (t) => {
  const world = await setUp(t, 'vfs');
  const [, top = ''] = await storeAll(world.store);
  writeFileSync(`${world.diff(top)}/srv/file`, 'bad');
  await look(world.store, true);
  assert.deepEqual(await namesOf(world.store), ['example.org/lonely', 'example.org/sibling']);
  await storeImage(world.store, image, 'example.org/image');
  assert.equal(readFileSync(`${world.diff(top)}/srv/file`, 'utf8'), 'own');
  assert.deepEqual(await namesOf(world.store), names.toSorted());
});

test('an image is damaged when its manifest or config is missing, cut short, changed or huge', async (t) => {
  const { base, store } = await setUp(t);
  await storeAll(store);
  const folder = `${base}/root/overlay-images/${image.id}`;
  const config = `=${Buffer.from(`sha256:${image.id}`).toString('base64')}`;
  for (const file of ['manifest', config]) {
    const harms = [
      () => unlinkSync(`${folder}/${file}`),
      () => truncateSync(`${folder}/${file}`, 10),
      () => truncateSync(`${folder}/${file}`),
      // Whatever its record says, that much is not read into memory.
      () => truncateSync(`${folder}/${file}`, 65 << 20),
    ];
    for (const harm of harms) {
      harm();
      await look(store, false);
      assert.deepEqual(await namesOf(store), ['example.org/lonely', 'example.org/sibling']);
      assert.match(
        store.health.damageOf(image.id) ?? '',
        /data item ".*" (is missing|has another content)|larger than 67108864 bytes/,
      );
      await storeImage(store, image, 'example.org/image');
      assert.deepEqual(await namesOf(store), names.toSorted());
    }
  }
  rmSync(folder, { recursive: true });
  await look(store, false);
  assert.equal(store.health.damageOf(image.id)?.includes('is missing'), true);
  await storeImage(store, image, 'example.org/image');
  assert.ok(isClean(await store.health.check({ contents: true, maxAgeMs: noAge })));
});

test('damaged data of a pull before, which a pull does not bring, is dropped by it', async (t) => {
  const { base, store, reopen } = await setUp(t);
  const manifest = Buffer.concat([image.manifest, Buffer.from('\n')]);
  const digest = `sha256:${createHash('sha256').update(manifest).digest('hex')}`;
  const later = { ...image, manifest, digest };
  for (const each of [image, later]) await storeImage(store, each, 'example.org/image');
  const folder = `${base}/root/overlay-images/${image.id}`;
  const old = `manifest-${image.digest}`;
  const oldFile = `${folder}/=${Buffer.from(old).toString('base64')}`;
  for (const alsoNew of [false, true]) {
    if (alsoNew) await storeImage(store, image, 'example.org/image');
    truncateSync(oldFile, 10);
    if (alsoNew) unlinkSync(`${folder}/manifest`);
    await look(store, false);
    assert.deepEqual(await namesOf(store), []);
    await storeImage(store, later, 'example.org/image');
    const [record] = await store.images.list();
    assert.deepEqual(record?.digests, [digest]);
    assert.deepEqual(
      record?.bigDataNames.toSorted(),
      [`sha256:${image.id}`, 'manifest', `manifest-${digest}`].toSorted(),
    );
    assert.equal(existsSync(oldFile), false);
    const again = await reopen();
    await look(again, false);
    assert.deepEqual(await namesOf(again), ['example.org/image']);
  }
});

test('a container cannot be created from a damaged image, and a mounted one goes on with what it has', async (t) => {
  const world = await setUp(t);
  const { store, diff } = world;
  const [base = ''] = await storeAll(store);
  const running = 'a'.repeat(64);
  await createContainer(store, running, image.id);
  const root = await store.containers.mount(running);
  writeFileSync(`${diff(base)}/bin/sh`, 'broken');
  await look(store, true);
  await assert.rejects(
    createContainer(store, 'b'.repeat(64), image.id),
    /image "\w+" is damaged: layer \w+: "bin\/sh" has another content; pull it again/,
  );
  await storeImage(store, image, 'example.org/image');
  assert.equal(readFileSync(`${root}/bin/sh`, 'utf8'), 'broken', 'its lower layer is still the old one');
  assert.equal(readFileSync(`${root}/etc/passwd`, 'utf8'), 'root:x:0:0\n');
  await checkMount(store, image.id);
  const kept = () =>
    readdirSync(`${world.base}/root/overlay/${base}`).filter((name) => name.startsWith('crio-damaged-'));
  assert.equal(kept().length, 1);
  await store.containers.unmount(running);
  assert.equal(readFileSync(`${await store.containers.mount(running)}/bin/sh`).length, 300_000);
  await store.containers.unmount(running);
  await store.containers.delete(running);
  for (const each of [image, sibling]) await store.images.delete(each.id);
  assert.equal(existsSync(`${world.base}/root/overlay/${base}`), false);
});

test('a description that cannot be read takes no image away, and is found by a check', async (t) => {
  const { base, store } = await setUp(t);
  const [, top = ''] = await storeAll(store);
  const file = `${base}/root/overlay-layers/${top}.tar-split.gz`;
  const harms = [
    () => truncateSync(file, 60),
    () => writeFileSync(file, 'no gzip'),
    () => renameSync(file, `${base}/away`),
  ];
  for (const harm of harms) {
    harm();
    await look(store, true);
    assert.deepEqual(await namesOf(store), names.toSorted());
    const { layers } = await store.health.check({ contents: true, maxAgeMs: noAge });
    assert.match(layers.get(top) ?? '', /tar-split description/);
  }
});

test('podman reads a store with damaged images, and what it deletes is forgotten', async (t) => {
  const { base, store, diff } = await setUp(t);
  const [, top = ''] = await storeAll(store);
  unlinkSync(`${diff(top)}/srv/file`);
  await look(store, true);
  const podman = (...args: string[]) => {
    const flags = ['--root', `${base}/root`, '--runroot', `${base}/run`, '--storage-driver', 'overlay'];
    const ran = spawnSync('podman', [...flags, ...args], { encoding: 'utf8' });
    assert.equal(ran.status, 0, ran.stderr);
    return ran.stdout;
  };
  assert.match(podman('images', '--format', '{{.Repository}}'), /example.org\/image/);
  podman('rmi', image.id);
  assert.equal(store.health.damageOf(image.id), undefined);
  assert.deepEqual(await namesOf(store), ['example.org/lonely', 'example.org/sibling']);
  await storeImage(store, image, 'example.org/image');
  assert.deepEqual(await namesOf(store), names.toSorted());
});

test('damage is found while another program writes the index', async (t) => {
  const { base, store } = await setUp(t);
  await storeAll(store);
  await store[Symbol.asyncDispose]();
  const others = [image, sibling, lonely];
  for (const { id } of others) truncateSync(`${base}/root/overlay-images/${id}/manifest`);
  const log = new Logger({
    ...{ level: 'warn', filter: undefined, format: 'text' },
    // As another program does that writes the index, whenever an image has been marked.
    write: () => writeFileSync(`${base}/root/overlay-images/images.lock`, randomBytes(64)),
  });
  const roots = { graphRoot: `${base}/root`, runRoot: `${base}/run`, imageStore: '' };
  const again = await openStore({ ...roots, driver: 'overlay', options: [], log });
  closeLater(again);
  await look(again, false);
  assert.deepEqual(await namesOf(again), []);
});

test('looking ends when it is told to', async (t) => {
  const { store } = await setUp(t);
  await storeAll(store);
  const stop = new AbortController();
  const walk = store.health.walk({ contents: true, signal: stop.signal });
  await sleep(5);
  stop.abort();
  await walk;
});
