import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { buildTar } from '../../src/storage/testing/build-tar.ts';
import { busybox, execSync, removePod, runContainer, runPod, waitFor } from '../client/pods.ts';
import { podmanOn, podmanRunOptions } from '../fixtures/podman.ts';
import { run } from '../fixtures/process.ts';
import { daemonFile } from '../run/daemon.ts';
import { write } from '../run/node-files.ts';
import { failureOf, handlers, useDaemon } from './environment.ts';
import { putShellImage, startMadeRegistry } from './made-images.ts';
import { preparePodman } from './podman.ts';

const registry = await startMadeRegistry();
after(() => registry[Symbol.asyncDispose]());

const formats = (tag: string): string => `docker.io/library/formats:${tag}`;
const graphRoot = '/var/lib/containers/storage';

async function says(client: ReturnType<typeof useDaemon>['client'], image: string): Promise<string> {
  const pod = await runPod(client);
  const id = await runContainer(client, pod, { image, command: ['sleep', '1000'] });
  const { stdout } = await execSync(client, id, ['sh', '-c', 'echo x > /written; cat /etc/image-name /written']);
  await removePod(client, pod.id);
  return stdout;
}

/** Names, sizes and contents of all files below, but for those that a shared store's lock files may become. */
function fingerprint(root: string): string {
  const hash = createHash('sha256');
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = `${entry.parentPath}/${entry.name}`;
    hash.update(path);
    if (entry.isFile()) hash.update(readFileSync(path));
  }
  return hash.digest('hex');
}

/** What `crio check` says of the storage that the configuration names. */
function check(): string {
  return run(daemonFile, ['check']);
}

describe('an additional image store, named in storage.conf', () => {
  const shared = '/srv/shared';
  const image = formats('plain');
  const tagged = 'docker.io/library/shared:tagged';
  let content = '';
  before(() => {
    preparePodman();
    const podman = ['--root', shared, '--runroot', '/run/shared', '--cgroup-manager', 'cgroupfs'];
    run('podman', [...podman, 'pull', '--quiet', image]);
    run('podman', [...podman, 'pull', '--quiet', formats('docker')]);
    run('podman', [...podman, 'tag', formats('docker'), tagged]);
    rmSync(`${shared}/libpod`, { recursive: true, force: true });
    content = fingerprint(shared);
    // Nobody may write there, not even lock files.
    run('mount', ['--bind', shared, shared]);
    run('mount', ['-o', 'remount,bind,ro', shared]);
    write(
      '/etc/containers/storage.conf',
      `[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = ["${shared}"]\n`,
    );
  });
  after(() => void run('umount', ['--lazy', shared]));
  const node = useDaemon();

  test('its images are listed, pinned, and run', async () => {
    const { client } = node;
    const { image: status } = await client.image.imageStatus({ image: { image } });
    assert.deepEqual([status?.repoTags, status?.pinned], [[image], true]);
    assert.ok((status?.size ?? 0n) > 100_000n);
    assert.equal(await says(client, image), `${image}\nx\n`);
    assert.equal(await says(client, status?.id ?? ''), `${image}\nx\n`);
  });

  test('it is neither removed nor untagged', async () => {
    const { client } = node;
    const id = (await client.image.imageStatus({ image: { image } })).image?.id ?? '';
    for (const asked of [image, id, tagged]) {
      const { details } = await failureOf(client.image.removeImage({ image: { image: asked } }));
      assert.match(details, /is in an additional image store, which is read-only/);
    }
    assert.equal((await client.image.imageStatus({ image: { image: tagged } })).image?.repoTags.length, 2);
  });

  test('a pull takes its layers, and what is pulled is our own', async () => {
    const { client, daemon } = node;
    const layers = () => readdirSync(`${graphRoot}/overlay`).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const before = layers();
    await client.image.pullImage({ image: { image } });
    assert.deepEqual(layers(), before, 'no layer was unpacked');
    const own = (await client.image.imageStatus({ image: { image } })).image;
    assert.equal(own?.pinned, false);
    assert.equal(await says(client, image), `${image}\nx\n`);
    await client.image.removeImage({ image: { image } });
    assert.equal((await client.image.imageStatus({ image: { image } })).image?.pinned, true, 'the shared one is back');
    // Its lowest layer is in the shared store, the upper one is new.
    await client.image.pullImage({ image: { image: formats('list') } });
    assert.equal(layers().length, before.length + 1);
    assert.equal(await says(client, formats('list')), `${formats('list')}\nx\n`);
    await daemon.restart('SIGTERM', () => void check());
    assert.equal(await says(client, formats('list')), `${formats('list')}\nx\n`);
  });

  test('nothing in it was changed', () => {
    assert.equal(fingerprint(shared), content);
  });
});

describe('an image store of its own, on another disk', () => {
  const imageStore = '/srv/images';
  before(() => {
    write('/etc/containers/storage.conf', '[storage]\ndriver = "overlay"\n');
    mkdirSync(imageStore, { recursive: true });
    run('mount', ['-t', 'tmpfs', '-o', 'size=512m', 'images', imageStore]);
  });
  after(() => void run('umount', ['--lazy', imageStore]));
  const node = useDaemon({ config: `[crio]\nroot = "/srv/containers"\nimagestore = "${imageStore}"\n` });

  test('image layers and records lie there, containers in the graph root', async () => {
    const { client } = node;
    const image = formats('zstd');
    await client.image.pullImage({ image: { image } });
    const pod = await runPod(client);
    const id = await runContainer(client, pod, { image, command: ['sleep', '1000'] });
    assert.equal((await execSync(client, id, ['cat', '/etc/image-name'])).stdout, `${image}\n`);
    const layerIds = (root: string) => readdirSync(`${root}/overlay`).filter((name) => /^[0-9a-f]{64}$/.test(name));
    assert.equal(layerIds('/srv/containers').length, 2, 'of the pod and of its container');
    // busybox has two layers, this image one more, and the pause image one.
    assert.equal(layerIds(imageStore).length, 4);
    assert.ok(readFileSync(`${imageStore}/overlay-images/images.json`, 'utf8').includes(image));
    assert.ok(readFileSync(`${imageStore}/overlay-layers/layers.json`, 'utf8').length > 100);
    assert.equal(statSync(`/srv/containers/overlay-layers/volatile-layers.json`).size > 100, true);
    await removePod(client, pod.id);
    await waitFor('the containers to be deleted', 10_000, () => layerIds('/srv/containers').length === 0);
  });

  test('ImageFsInfo tells images and containers apart', async () => {
    const { client } = node;
    const pod = await runPod(client);
    const id = await runContainer(client, pod, { command: ['sleep', '1000'] });
    await execSync(client, id, ['sh', '-c', 'head -c 3000000 /dev/zero > /big']);
    const { images, containers } = await waitFor('the writable layer to be walked', 25_000, async () => {
      const info = await client.image.imageFsInfo({});
      const [images, containers] = [info.imageFilesystems[0], info.containerFilesystems[0]];
      return (containers?.usedBytes?.value ?? 0n) >= 3_000_000n ? { images, containers } : undefined;
    });
    assert.equal(images?.fsId?.mountpoint, `${imageStore}/overlay-images`);
    assert.equal(containers?.fsId?.mountpoint, '/srv/containers/overlay-containers');
    assert.ok((images.usedBytes?.value ?? 0n) > 1_000_000n && (containers.usedBytes?.value ?? 0n) < 4_000_000n);
    await removePod(client, pod.id);
  });

  test('images go from there, and the store is whole after a restart', async () => {
    const { client, daemon } = node;
    const image = formats('zstd');
    await daemon.restart('SIGKILL');
    assert.deepEqual((await client.image.imageStatus({ image: { image } })).image?.repoTags, [image]);
    await client.image.removeImage({ image: { image } });
    assert.equal((await client.image.imageStatus({ image: { image } })).image, undefined);
    const pod = await runPod(client);
    await runContainer(client, pod, { image: busybox, command: ['sleep', '1000'] });
    await removePod(client, pod.id);
    const layers: { id: string }[] = JSON.parse(readFileSync(`${imageStore}/overlay-layers/layers.json`, 'utf8'));
    const folders = readdirSync(`${imageStore}/overlay`).filter((name) => /^[0-9a-f]{64}$/.test(name));
    assert.deepEqual(folders.toSorted(compare), layers.map(({ id }) => id).toSorted(compare));
    for (const { id } of layers)
      assert.ok(
        statSync(`/srv/containers/overlay-layers/${id}.tar-split.gz`).size > 0,
        'tar-split stays in the graph root',
      );
    await daemon.restart('SIGTERM', () => void check());
  });
});

describe('the vfs driver', () => {
  const root = '/srv/vfs';
  const podman = podmanOn({ root, runRoot: '/run/vfs', driver: 'vfs' });
  before(() => {
    preparePodman();
    rmSync('/etc/containers/storage.conf', { force: true });
  });
  const node = useDaemon({ config: `[crio]\nroot = "${root}"\nrunroot = "/run/vfs"\nstorage_driver = "vfs"\n` });
  const layers = () => readdirSync(`${root}/vfs/dir`).filter((name) => /^[0-9a-f]{64}$/.test(name));

  /** What is left of what three layers say, one over the other. */
  async function shows(image: string): Promise<void> {
    const { client } = node;
    for (const handler of handlers) {
      const pod = await runPod(client, { handler });
      const id = await runContainer(client, pod, { image, command: ['sleep', '1000'] });
      const { stdout } = await execSync(client, id, ['sh', '-c', 'echo x > /written; cd /data; find . | sort']);
      assert.equal(stdout, '.\n./deep\n./deep/down\n./deep/down/new\n./kept\n');
      await removePod(client, pod.id);
    }
  }

  test('images are pulled, run by us and by podman, given back whole, and removed', async () => {
    const { client, daemon } = node;
    const lower = ['gone', 'deep/gone', 'deep/down/gone', 'other/gone'].map((name) => ({
      name: `data/${name}`,
      data: 'x',
    }));
    const upper = [
      { name: 'data/deep/down/new', data: 'new' },
      { name: 'data/kept', data: 'new' },
      { name: 'data/.wh..wh..opq' },
    ];
    const image = putShellImage(registry, 'vfs', { layers: [buildTar(lower), buildTar(upper)] });
    const before = layers();
    await client.image.pullImage({ image: { image } });
    const own = layers().filter((id) => !before.includes(id));
    assert.equal(own.length, 3);
    await shows(image);
    const listed = podman('run', ...podmanRunOptions, image, 'find', '/data', '-type', 'f');
    assert.deepEqual(listed.trim().split('\n').toSorted(compare), ['/data/deep/down/new', '/data/kept']);
    // It compares what it reads with the digests of the layers.
    run('skopeo', ['copy', '--quiet', `containers-storage:[vfs@${root}+/run/vfs]${image}`, 'dir:/srv/vfs-copy']);
    await daemon.restart('SIGKILL');
    await shows(image);
    await client.image.removeImage({ image: { image } });
    assert.deepEqual(
      layers().filter((id) => own.includes(id)),
      [],
    );
    await daemon.restart('SIGTERM', () => void check());
  });
});

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
