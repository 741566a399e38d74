import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { silentLog } from '../base/log.ts';
import { tryAcquireFileLock } from '../sys/lock.ts';
import { MS_BIND, mount, readMountInfo, umount } from '../sys/mount.ts';
import { openStore } from './open-store.ts';
import type { Store } from './store.ts';
import { buildImage, storeImage, writeLayout } from './testing/build-image.ts';
import type { TestImage } from './testing/build-image.ts';
import { removeWithMounts } from './testing/remove-with-mounts.ts';

/** The real podman and skopeo on a store of ours, and we on theirs. */
interface World {
  readonly base: string;
  readonly store: Store;
  podman(...args: readonly string[]): string;
  skopeo(...args: readonly string[]): string;
  /** Store reference that skopeo understands. */
  reference(name: string): string;
}

async function setUp(t: TestContext): Promise<World> {
  // podman takes no run root of more than 50 characters, so the folder for temporary files may be too deep.
  const base = mkdtempSync('/var/tmp/interop-');
  const roots = ['--root', `${base}/root`, '--runroot', `${base}/run`, '--storage-driver', 'overlay'];
  const store = await openStore({
    graphRoot: `${base}/root`,
    runRoot: `${base}/run`,
    imageStore: '',
    driver: 'overlay',
    options: [],
    log: silentLog,
  });
  t.after(async () => {
    await store[Symbol.asyncDispose]();
    removeWithMounts(base);
  });
  // Its locks would stay in /dev/shm for good.
  writeFileSync(`${base}/containers.conf`, '[engine]\nlock_type = "file"\n');
  process.env['CONTAINERS_CONF'] = `${base}/containers.conf`;
  const run = (file: string, args: readonly string[]) => execFileSync(file, args, { encoding: 'utf8', cwd: base });
  return {
    base,
    store,
    podman: (...args) => run('podman', [...roots, ...podmanOptions(base), ...args]),
    skopeo: (...args) => run('skopeo', ['--insecure-policy', ...args]),
    reference: (name) => `containers-storage:[overlay@${base}/root+${base}/run]${name}`,
  };
}

const podmanOptions = (base: string) => [
  '--cgroup-manager',
  'cgroupfs',
  '--events-backend',
  'none',
  '--tmpdir',
  `${base}/libpod`,
];
/** Limits that a container without CAP_SYS_RESOURCE may set, and no cgroup of its own. */
const runOptions = [
  '--rm',
  '--network',
  'none',
  '--cgroups',
  'disabled',
  '--ulimit',
  'nofile=512:512',
  '--ulimit',
  'nproc=512:512',
];

const busybox = readFileSync('/bin/busybox');
const image = buildImage([
  [
    { name: 'bin/', type: '5', mode: 0o755 },
    { name: 'bin/busybox', data: busybox, mode: 0o755 },
    { name: 'bin/sh', type: '2', linkName: 'busybox' },
    { name: 'bin/cat', type: '1', linkName: 'bin/busybox', mode: 0o755 },
    { name: 'etc/', type: '5', mode: 0o755 },
    { name: 'etc/gone', data: 'x' },
    { name: 'etc/a', data: 'base', uid: 5, pax: { 'SCHILY.xattr.user.x': 'y' } },
    { name: 'tmp/', type: '5', mode: 0o1777 },
  ],
  [{ name: 'etc/.wh.gone' }, { name: 'etc/a', data: 'top' }],
]);
const name = 'localhost/test:1';

/** `<hex>` of every file in the folder. */
function digests(folder: string): string[] {
  return readdirSync(folder).map((file) =>
    createHash('sha256')
      .update(readFileSync(`${folder}/${file}`))
      .digest('hex'),
  );
}

function assertHasLayers(found: readonly string[], of: TestImage): void {
  for (const { diffId } of of.layers) assert.ok(found.includes(diffId.slice('sha256:'.length)), diffId);
}

test('podman lists and runs an image of ours', async (t) => {
  const { store, podman } = await setUp(t);
  await storeImage(store, image, name);
  const [listed] = JSON.parse(podman('images', '--format', 'json', '--digests'));
  assert.deepEqual([listed.Id, listed.Digest, listed.Names], [image.id, image.digest, [name]]);
  assert.equal(listed.Size, await store.images.size(image.id));
  const output = podman(
    'run',
    ...runOptions,
    name,
    '/bin/sh',
    '-c',
    'cat /etc/a; ls /etc/gone 2>/dev/null || echo " no"',
  );
  assert.equal(output, 'top no\n');
  assert.equal((await store.containers.list()).length, 0);
});

test('skopeo and podman give the layers of an image of ours back byte for byte', async (t) => {
  const { base, store, podman, skopeo, reference } = await setUp(t);
  await storeImage(store, image, name);
  skopeo('copy', '-q', reference(name), `dir:${base}/out`);
  const found = digests(`${base}/out`);
  assertHasLayers(found, image);
  assert.ok(found.includes(image.id), 'config');
  podman('save', '-q', '--format', 'oci-dir', '-o', `${base}/saved`, name);
  assert.ok(digests(`${base}/saved/blobs/sha256`).includes(image.id));
  podman('save', '-q', '--format', 'docker-archive', '-o', `${base}/saved.tar`, name);
  execFileSync('sh', ['-ec', 'mkdir archive; tar -xf saved.tar -C archive'], { cwd: base });
  const archived = readdirSync(`${base}/archive`).filter((file) => file.endsWith('.tar') || file.endsWith('.json'));
  assertHasLayers(
    archived.map((file) =>
      createHash('sha256')
        .update(readFileSync(`${base}/archive/${file}`))
        .digest('hex'),
    ),
    image,
  );
});

test('an image that skopeo stored is ours, too', async (t) => {
  const { base, store, skopeo, reference } = await setUp(t);
  assert.deepEqual(await store.images.list(), []);
  writeLayout(image, `${base}/layout`);
  skopeo('copy', '-q', `oci:${base}/layout`, reference(name));
  const found = await store.images.find(name);
  assert.deepEqual([found?.id, found?.digest], [image.id, image.digest]);
  assert.deepEqual(await store.images.readBigData(image.id, 'manifest'), image.manifest);
  await store.containers.create({
    id: 'c'.repeat(64),
    names: ['c'],
    layerName: 'c-layer',
    imageId: image.id,
    metadata: '',
    mountLabel: '',
    uidMap: [],
    gidMap: [],
  });
  const root = await store.containers.mount('c'.repeat(64));
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  await store.layers.usage();
  await store[Symbol.asyncDispose]();
  assert.deepEqual((await store.layers.usage()).imageRoot, {
    bytes: image.layers.reduce((sum, layer) => sum + layer.tar.length, 0),
    inodes: 10,
  });
});

test('the records that skopeo and we write for one image are the same', async (t) => {
  const [ours, theirs] = [await setUp(t), await setUp(t)];
  await storeImage(ours.store, image, name);
  writeLayout(image, `${theirs.base}/layout`);
  theirs.skopeo('copy', '-q', `oci:${theirs.base}/layout`, theirs.reference(name));
  const read = (world: World, path: string) => JSON.parse(readFileSync(`${world.base}/root/${path}`, 'utf8'));
  const withoutTimes = (records: readonly Record<string, unknown>[]) =>
    records.map((record) => ({ ...record, created: '' }));
  assert.deepEqual(
    withoutTimes(read(ours, 'overlay-layers/layers.json')),
    withoutTimes(read(theirs, 'overlay-layers/layers.json')),
  );
  const [our] = read(ours, 'overlay-images/images.json');
  const [their] = read(theirs, 'overlay-images/images.json');
  // Old skopeo adds an empty signature item and its sizes; newer versions, and we, do not.
  for (const key of Object.keys(their['big-data-sizes']))
    if (key.startsWith('signature-')) delete their['big-data-sizes'][key];
  for (const key of Object.keys(their['big-data-digests']))
    if (key.startsWith('signature-')) delete their['big-data-digests'][key];
  their['big-data-names'] = their['big-data-names'].filter((key: string) => !key.startsWith('signature-'));
  assert.deepEqual({ ...our, created: '', metadata: '' }, { ...their, created: '', metadata: '' });
  const tree = (world: World) =>
    execFileSync(
      'sh',
      [
        '-c',
        'cd root/overlay; find . -path ./l -prune -o -name tempdirs -prune -o -printf "%P %y %m %U:%G %l\\n" | grep -v "^ " | sort',
      ],
      {
        cwd: world.base,
        encoding: 'utf8',
      },
    );
  assert.equal(tree(ours), tree(theirs));
});

test('podman tags and deletes what we stored, and we see it', async (t) => {
  const { store, podman } = await setUp(t);
  await storeImage(store, image, name);
  podman('tag', name, 'localhost/other:2');
  assert.deepEqual((await store.images.find(image.id))?.names.toSorted(), ['localhost/other:2', name]);
  await store.images.changeNames(image.id, () => ['localhost/other:2']);
  assert.match(podman('images', '--format', '{{.Repository}}:{{.Tag}}'), /^localhost\/other:2\s*$/);
  podman('rmi', '-f', image.id);
  assert.deepEqual(await store.images.list(), []);
  await storeImage(store, image, name);
  await store.images.delete(image.id);
  assert.equal(podman('images', '-q').trim(), '');
});

test('mounted containers of ours survive podman commands', async (t) => {
  const { store, podman } = await setUp(t);
  await storeImage(store, image, name);
  await store.containers.create({
    id: 'c'.repeat(64),
    names: ['c'],
    layerName: 'c-layer',
    imageId: image.id,
    metadata: '',
    mountLabel: '',
    uidMap: [],
    gidMap: [],
  });
  const root = await store.containers.mount('c'.repeat(64));
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  const isMounted = () => readMountInfo().some((mount) => mount.mountPoint === root);
  podman('images');
  podman('run', ...runOptions, name, '/bin/sh', '-c', 'true');
  podman('ps', '-a');
  // podman 5 leaves a mount on the driver's home, so that the path leads elsewhere; what is mounted stays mounted.
  assert.ok(isMounted());
  await store.containers.delete('c'.repeat(64));
  assert.equal(isMounted(), false);
  assert.equal(existsSync(dirname(root)), false);
});

test('a root file system that podman hid or detached is known as lost until it is mounted again', async (t) => {
  const { store, podman } = await setUp(t);
  await storeImage(store, image, name);
  const id = 'd'.repeat(64);
  const container = { id, names: ['d'], layerName: 'd-layer', imageId: image.id, metadata: '', mountLabel: '' };
  await store.containers.create({ ...container, uidMap: [], gidMap: [] });
  const root = await store.containers.mount(id);
  assert.equal(await store.containers.rootWasLost(id), false);
  podman('images');
  assert.equal(await store.containers.rootWasLost(id), true, 'podman has ended its driver meanwhile');
  await store.containers.mount(id);
  assert.equal(await store.containers.rootWasLost(id), false);
  // As at the end of a command: the mount is there again already, the token is not.
  const lockFile = `${dirname(dirname(dirname(root)))}/storage.lock`;
  const ending = tryAcquireFileLock(lockFile, 'write');
  const isLost = store.containers.rootWasLost(id);
  await sleep(100);
  writeFileSync(lockFile, Buffer.alloc(64, 'x'));
  ending?.release();
  assert.equal(await isLost, true);
  await store.containers.mount(id);
  // As podman does at the start of a command.
  mount(dirname(dirname(root)), dirname(dirname(root)), 'none', MS_BIND);
  assert.equal(existsSync(`${root}/etc/a`), false);
  assert.equal(await store.containers.rootWasLost(id), true);
  await store.containers.mount(id);
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  assert.equal(await store.containers.rootWasLost(id), false);
  umount(dirname(dirname(root)), 2);
  // What was mounted on the bind went with it; on the one that podman 5 leaves, an earlier mount comes to light.
  assert.equal(await store.containers.rootWasLost(id), !existsSync(`${root}/etc/a`));
  await store.containers.mount(id);
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  await store.containers.delete(id);
  assert.equal(existsSync(dirname(root)), false);
});

test('a layer that others removed and made again is used as it is now', async (t) => {
  const { base, store, podman, skopeo, reference } = await setUp(t);
  await storeImage(store, image, name);
  const container = (id: string) => ({
    ...{ id: id.repeat(64), names: [id], layerName: `${id}-layer`, imageId: image.id, metadata: '', mountLabel: '' },
    ...{ uidMap: [], gidMap: [] },
  });
  await store.containers.create(container('d'));
  await store.containers.delete('d'.repeat(64));
  podman('rmi', name);
  writeLayout(image, `${base}/layout`);
  skopeo('copy', '--quiet', `oci:${base}/layout`, reference(name));
  await store.containers.create(container('e'));
  const root = await store.containers.mount('e'.repeat(64));
  assert.equal(readFileSync(`${root}/etc/a`, 'utf8'), 'top');
  await store.containers.delete('e'.repeat(64));
});

test('an image is removed while podman has its bind on the home', async (t) => {
  const { base, store } = await setUp(t);
  await storeImage(store, image, name);
  mount(`${base}/root/overlay`, `${base}/root/overlay`, 'none', MS_BIND);
  await store.images.delete(image.id);
  umount(`${base}/root/overlay`, 2);
  assert.deepEqual(
    readdirSync(`${base}/root/overlay-layers`).filter((file) => file.includes('tar-split')),
    [],
  );
  assert.equal((await store.images.list()).length, 0);
});

test('many writers of both kinds lose nothing', { timeout: 120_000 }, async (t) => {
  const { base, store } = await setUp(t);
  await storeImage(store, image, name);
  const podman = promisify(execFile);
  const args = [
    '--root',
    `${base}/root`,
    '--runroot',
    `${base}/run`,
    '--storage-driver',
    'overlay',
    ...podmanOptions(base),
  ];
  const theirs = (async () => {
    for (let round = 0; round < 3; round++)
      await podman('podman', [...args, 'run', ...runOptions, name, '/bin/sh', '-c', 'true']);
  })();
  const ours = Array.from({ length: 40 }, async (_, number) => {
    const id = number.toString(16).padStart(64, 'e');
    await store.containers.create({
      id,
      names: [`n${number}`],
      layerName: `n${number}-layer`,
      imageId: image.id,
      metadata: '',
      mountLabel: '',
      uidMap: [],
      gidMap: [],
    });
    await store.containers.mount(id);
    await store.images.changeNames(image.id, (names) => [...names, `localhost/n:${number}`]);
    if (number % 2 === 0) await store.containers.delete(id);
  });
  await Promise.all([...ours, theirs]);
  // Alone: podman 4.3 reads the names before it takes the lock, so it loses those that others add meanwhile.
  await podman('podman', [...args, 'tag', name, 'localhost/tag']);
  const containers = await store.containers.list();
  assert.equal(containers.length, 20);
  for (const { id } of containers) assert.ok(readFileSync(`${await store.containers.mount(id)}/etc/a`));
  const names = (await store.images.find(image.id))?.names ?? [];
  assert.equal(names.filter((each) => each.startsWith('localhost/n:')).length, 40);
  assert.ok(names.includes('localhost/tag:latest'));
  for (const { id } of containers) await store.containers.delete(id);
});
