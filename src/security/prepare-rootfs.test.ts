import assert from 'node:assert/strict';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getgid, getuid } from 'node:process';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { openDirectoryInRoot, pathInRoot } from './directory-in-root.ts';
import { prepareRootfs, prepareVolumes } from './prepare-rootfs.ts';
import { makeRootfs, type TestRootfs } from './rootfs.fixture.ts';

const owner = { uid: getuid?.() ?? 0, gid: getgid?.() ?? 0 };

function prepare(rootfs: TestRootfs, cwd: string): void {
  prepareRootfs({ rootFd: rootfs.fd, cwd, rootOwner: owner });
}

test('prepareRootfs makes working directory, /etc and mtab', () => {
  using rootfs = makeRootfs();
  prepare(rootfs, '/a/b');
  assert.equal(statSync(join(rootfs.path, 'a/b')).mode & 0o7777, 0o755);
  assert.equal(readlinkSync(join(rootfs.path, 'etc/mtab')), '/proc/mounts');
  prepare(rootfs, '/a/b');
});

test('prepareRootfs leaves an mtab of the image alone', () => {
  using rootfs = makeRootfs({ 'etc/mtab': 'mine' });
  prepare(rootfs, '/');
  assert.ok(statSync(join(rootfs.path, 'etc/mtab')).isFile());
});

test('a file in place of the working directory is an error', () => {
  using rootfs = makeRootfs({ work: 'x' });
  assert.throws(() => prepare(rootfs, '/work'), /not a directory/);
  assert.throws(() => prepare(rootfs, '/work/below'), /not a directory/);
});

test('CVE-2024-5154: links in /etc or on the way to the working directory stay in the image', () => {
  const outside = mkdtempSync(join(tmpdir(), 'outside-'));
  try {
    using rootfs = makeRootfs();
    symlinkSync(outside, join(rootfs.path, 'etc'));
    symlinkSync(`../../../../../../../..${outside}`, join(rootfs.path, 'work'));
    prepare(rootfs, '/work/deep');
    assert.deepEqual(readdirSync(outside), []);
    assert.ok(statSync(join(rootfs.path, outside, 'deep')).isDirectory());
    assert.equal(readlinkSync(join(rootfs.path, outside, 'mtab')), '/proc/mounts');
  } finally {
    rmSync(outside, { recursive: true });
  }
});

test('links in a circle are an error', () => {
  using rootfs = makeRootfs();
  symlinkSync('b', join(rootfs.path, 'a'));
  symlinkSync('a', join(rootfs.path, 'b'));
  assert.throws(() => prepare(rootfs, '/a/x'), { kind: 'invalid' });
});

test('CVE-2024-21626: a descriptor of a process is no working directory', () => {
  using rootfs = makeRootfs();
  for (const cwd of ['/proc/self/fd/8', '/proc/1/fd', '/proc/self/task/1/fd/3/../..//../../self/fd/9']) {
    assert.throws(() => prepare(rootfs, cwd), /is a descriptor of a process/, cwd);
  }
  symlinkSync('/proc/self/fd', join(rootfs.path, 'innocent'));
  assert.throws(() => prepare(rootfs, '/innocent/8'), /is a descriptor of a process/);
});

test('prepareVolumes makes directories, unless the request mounts something there', async () => {
  using rootfs = makeRootfs();
  const request = {
    rootFd: rootfs.fd,
    bundle: rootfs.bundle,
    volumes: ['/data', 'rel', '/taken'],
    mounted: new Set(['/taken']),
    owner,
  };
  assert.deepEqual(await prepareVolumes({ ...request, mode: 'mkdir' }), []);
  assert.deepEqual(readdirSync(rootfs.path), ['data', 'rel']);
  assert.deepEqual(await prepareVolumes({ ...request, mode: 'ignore' }), []);
  const binds = await prepareVolumes({ ...request, mode: 'bind' });
  assert.deepEqual(
    binds.map(({ destination }) => destination),
    ['/data', '/rel'],
  );
  assert.match(binds[0]?.source ?? '', /\/bundle\/mounts\/[0-9a-f]{64}$/);
});

test('CVE-2022-23648: a volume path with dots stays in the image', async () => {
  using rootfs = makeRootfs();
  await prepareVolumes({
    rootFd: rootfs.fd,
    bundle: rootfs.bundle,
    volumes: ['/../../../../escaped'],
    mounted: new Set(),
    mode: 'mkdir',
    owner,
  });
  assert.deepEqual(readdirSync(rootfs.path), ['escaped']);
});

test('CVE-2025-31133, CVE-2025-52565, CVE-2025-52881: no volume of an image covers /dev, /proc or /sys', async () => {
  using rootfs = makeRootfs({ 'var/file': '' });
  symlinkSync('/proc', join(rootfs.path, 'innocent'));
  symlinkSync('../dev', join(rootfs.path, 'var/dev'));
  const system = ['/proc', '/proc/self/attr', '/dev/', '/dev/pts', '/sys/fs/cgroup', '/var/../dev', '//proc/.'];
  const volumes = [...system, '/innocent', '/innocent/self', '/var/dev/null', '/data', '/development'];
  const mounts = await prepareVolumes({
    ...{ rootFd: rootfs.fd, bundle: rootfs.bundle, volumes, mounted: new Set<string>(), mode: 'bind', owner },
  });
  assert.deepEqual(
    mounts.map(({ destination }) => destination),
    ['/data', '/development'],
  );
});

test('CVE-2021-30465, CVE-2024-45310: a folder that is swapped for a link meanwhile leads nowhere else', async () => {
  using rootfs = makeRootfs();
  mkdirSync(join(rootfs.path, 'folder'));
  symlinkSync(rootfs.bundle, join(rootfs.path, 'link'));
  mkdirSync(join(rootfs.path, rootfs.bundle), { recursive: true });
  const swaps = new Int32Array(new SharedArrayBuffer(4));
  await using _swapper = swapForEver(rootfs.path, swaps);
  for (let at = 0; Atomics.load(swaps, 0) < 3000; at++) {
    closeSync(openDirectoryInRoot(rootfs.fd, `/folder/${at}/deep`, { mode: 0o755, owner }));
    assert.deepEqual(readdirSync(rootfs.bundle), []);
  }
});

/** Exchanges `folder` and `link` in a thread, and counts. */
function swapForEver(root: string, swaps: Int32Array): AsyncDisposable {
  const code = `
    const { root, swaps, url } = require('node:worker_threads').workerData;
    import(url).then(({ RENAME_EXCHANGE, renameat2 }) => {
      for (;;) {
        renameat2(undefined, root + '/folder', undefined, root + '/link', RENAME_EXCHANGE);
        Atomics.add(swaps, 0, 1);
      }
    });`;
  const url = new URL('../sys/file.ts', import.meta.url).href;
  const worker = new Worker(code, { eval: true, workerData: { root, swaps, url } });
  return {
    async [Symbol.asyncDispose]() {
      await worker.terminate();
    },
  };
}

test('openDirectoryInRoot opens what a chrooted process would, whatever links the image has', () => {
  const name = fc.constantFrom('a', 'b', 'c');
  const target = fc
    .array(fc.constantFrom('a', 'b', 'c', '..', '/', '.'), { minLength: 1, maxLength: 5 })
    .map((parts) => parts.join('/'));
  const links = fc.array(fc.tuple(name, target), { maxLength: 3 });
  const path = fc
    .array(fc.constantFrom('a', 'b', 'c', '..'), { minLength: 1, maxLength: 4 })
    .map((parts) => `/${parts.join('/')}`);
  fc.assert(
    fc.property(links, path, (made, wanted) => {
      using rootfs = makeRootfs();
      mkdirSync(join(rootfs.path, 'd'));
      for (const [link, to] of new Map(made)) symlinkSync(to, join(rootfs.path, link));
      try {
        const fd = openDirectoryInRoot(rootfs.fd, wanted, { mode: 0o755, owner });
        const real = pathInRoot(rootfs.fd, fd);
        closeSync(fd);
        assert.ok(statSync(join(rootfs.path, real)).isDirectory());
      } catch (error) {
        assert.match(String(error), /not a directory|too many links|not found/);
      }
      assert.deepEqual(readdirSync(join(rootfs.path, '..')).toSorted(), ['bundle', 'rootfs']);
      assert.deepEqual(readdirSync(rootfs.bundle), []);
    }),
    { numRuns: 150 },
  );
});

test('a directory of the image keeps its mode', () => {
  using rootfs = makeRootfs();
  mkdirSync(join(rootfs.path, 'private'), { mode: 0o700 });
  writeFileSync(join(rootfs.path, 'private/file'), '');
  prepare(rootfs, '/private/new');
  assert.equal(statSync(join(rootfs.path, 'private')).mode & 0o7777, 0o700);
});
