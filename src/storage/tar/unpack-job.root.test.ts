import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { statAt } from '../../sys/file.ts';
import { lgetxattr } from '../../sys/xattr.ts';
import { buildTar, paxData } from '../testing/build-tar.ts';
import type { EntrySpec } from '../testing/build-tar.ts';
import { UnpackJob } from './unpack-job.ts';
import type { WhiteoutForm } from './place-entry.ts';

interface Unpacked {
  readonly root: string;
  readonly content: Awaited<ReturnType<UnpackJob['end']>>;
  /** The description, unzipped. */
  readonly tarSplit: string;
}

async function unpack(
  t: TestContext,
  archive: Buffer | readonly EntrySpec[],
  options: { whiteouts?: WhiteoutForm; prepare?: (root: string) => void; pieces?: number } = {},
): Promise<Unpacked> {
  const base = mkdtempSync(`${tmpdir()}/unpack-`);
  t.after(() => rmSync(base, { recursive: true }));
  const root = `${base}/outer/root`;
  mkdirSync(root, { recursive: true });
  options.prepare?.(root);
  using job = new UnpackJob({
    diffFolder: root,
    tarSplit: `${base}/split.gz`,
    whiteouts: options.whiteouts ?? 'overlay',
    warn: () => undefined,
  });
  const bytes = Buffer.isBuffer(archive) ? archive : buildTar(archive);
  const size = Math.ceil(bytes.length / (options.pieces ?? 1)) || 1;
  for (let at = 0; at < bytes.length; at += size) job.push(bytes.subarray(at, at + size));
  const content = job.end();
  assert.deepEqual(readdirSync(base).sort(), ['outer', 'split.gz'], 'nothing is written outside');
  assert.deepEqual(readdirSync(`${base}/outer`), ['root'], 'nothing is written outside');
  return { root, content, tarSplit: gunzipSync(readFileSync(`${base}/split.gz`)).toString() };
}

const isWhiteout = (path: string) => {
  const stat = statAt(undefined, path);
  return (stat.mode & 0o170000) === 0o020000 && stat.rdevMajor === 0 && stat.rdevMinor === 0;
};

test('CVE-2025-11395: names that lead out of the layer stay inside', async (t) => {
  const { root } = await unpack(t, [
    { name: '../evil', data: '1' },
    { name: 'x/../../evil2', data: '2' },
    { name: '/abs/x', data: '3' },
  ]);
  assert.deepEqual(readdirSync(root).sort(), ['abs', 'evil', 'evil2']);
});

test('CVE-2020-10696, CVE-2025-11395: symlinks are created as they are, and entries below them stay inside the root', async (t) => {
  const { root } = await unpack(t, [
    { name: 'etc/', type: '5' },
    { name: 'abs', type: '2', linkName: '/etc' },
    { name: 'up', type: '2', linkName: '../../../../etc' },
    { name: 'abs/a', data: 'a' },
    { name: 'up/b', data: 'b' },
  ]);
  assert.equal(readlinkSync(`${root}/up`), '../../../../etc');
  assert.deepEqual(readdirSync(`${root}/etc`).sort(), ['a', 'b']);
});

test('CVE-2020-10696: a file replaces a symlink instead of writing through it', async (t) => {
  const { root } = await unpack(t, [
    { name: 'a', data: 'old' },
    { name: 'd/f', type: '2', linkName: '../a' },
    { name: 'd/./f2', type: '2', linkName: '../a' },
    { name: 'e/../d/f', data: 'new', type: '0' },
  ]).catch((error: unknown) => {
    assert.match(String(error), /duplicates of file paths/);
    return { root: '' };
  });
  assert.equal(root, '', 'the same path twice is refused');
  const replaced = await unpack(t, [{ name: 'f', data: 'new' }], {
    prepare: (at) => symlinkSync('/etc/passwd', `${at}/f`),
  });
  assert.equal(lstatSync(`${replaced.root}/f`).isFile(), true);
});

test('an entry below a dangling symlink or a file is an error', async (t) => {
  await assert.rejects(
    unpack(t, [
      { name: 'l', type: '2', linkName: 'nowhere' },
      { name: 'l/x', data: '1' },
    ]),
    /unpack "l\/x"/,
  );
  await assert.rejects(
    unpack(t, [
      { name: 'f', data: '' },
      { name: 'f/x', data: '1' },
    ]),
    /ENOTDIR/,
  );
  await assert.rejects(
    unpack(t, [{ name: 'a', type: '2', linkName: 'b' }, { name: 'b', type: '2', linkName: 'a' }, { name: 'a/x' }]),
    /ELOOP/,
  );
});

test('hard links reach files of this layer only, and give their own attributes to the file', async (t) => {
  const { root, content } = await unpack(t, [
    { name: 'a', data: 'x', mode: 0o600, uid: 1 },
    { name: 'h', type: '1', linkName: '../../a', mode: 0o640, uid: 7, mtime: 1000 },
    { name: 's', type: '2', linkName: 'a' },
    { name: 'hs', type: '1', linkName: '/s' },
  ]);
  const stat = lstatSync(`${root}/a`);
  assert.deepEqual([stat.nlink, stat.mode & 0o7777, stat.uid, stat.mtimeMs], [2, 0o640, 7, 1_000_000]);
  assert.equal(lstatSync(`${root}/hs`).isSymbolicLink(), true);
  assert.equal(content.inodes, 2);
  await assert.rejects(unpack(t, [{ name: 'h', type: '1', linkName: '/etc/passwd' }]), /ENOENT/);
  await assert.rejects(
    unpack(t, [
      { name: 'up', type: '2', linkName: '..' },
      { name: 'h', type: '1', linkName: 'up/split.gz' },
    ]),
    /ENOENT/,
  );
});

test('CVE-2021-32760: mode, owner and times of a link to a link never reach what it points to', async (t) => {
  const host = `${mkdtempSync(`${tmpdir()}/unpack-host-`)}/file`;
  t.after(() => rmSync(dirname(host), { recursive: true }));
  writeFileSync(host, 'host', { mode: 0o600 });
  const before = lstatSync(host);
  const { root } = await unpack(t, [
    { name: 's', type: '2', linkName: host, mode: 0o777, uid: 7, mtime: 1000 },
    { name: 'h', type: '1', linkName: 's', mode: 0o4777, uid: 7, mtime: 1000 },
  ]);
  assert.equal(lstatSync(`${root}/h`).isSymbolicLink(), true);
  const after = lstatSync(host);
  assert.deepEqual([after.mode, after.uid, after.mtimeMs], [before.mode, before.uid, before.mtimeMs]);
});

test('CVE-2025-47290: a folder that becomes a link while its layer is unpacked leads nowhere', async (t) => {
  const base = mkdtempSync(`${tmpdir()}/unpack-race-`);
  t.after(() => rmSync(base, { recursive: true }));
  const [root, host] = [`${base}/root`, `${base}/host`];
  for (const folder of [root, host]) mkdirSync(folder);
  using job = new UnpackJob({
    diffFolder: root,
    tarSplit: `${base}/split.gz`,
    whiteouts: 'overlay',
    warn: () => undefined,
  });
  const bytes = buildTar([
    { name: 'd/', type: '5' },
    { name: 'd/first', data: '1' },
    { name: 'd/second', data: '2' },
    { name: 'd/deep/third', data: '3' },
  ]);
  // The folder, and the first file in it.
  job.push(bytes.subarray(0, 3 * 512));
  rmSync(`${root}/d`, { recursive: true });
  symlinkSync('../host', `${root}/d`);
  try {
    job.push(bytes.subarray(3 * 512));
    job.end();
  } catch {
    // An error is as good as a result inside.
  }
  assert.deepEqual(readdirSync(host), []);
});

test('the root entry is ignored', async (t) => {
  const { root } = await unpack(t, [{ name: './', type: '5', mode: 0o700, uid: 9 }, { name: './f' }]);
  assert.deepEqual([lstatSync(root).uid, readdirSync(root).join()], [0, 'f']);
});

test('a folder over a folder keeps its content, anything else replaces', async (t) => {
  const prepare = (root: string) => {
    mkdirSync(`${root}/d/e`, { recursive: true });
    mkdirSync(`${root}/g/h`, { recursive: true });
    writeFileSync(`${root}/f`, 'x');
  };
  const { root } = await unpack(
    t,
    [
      { name: 'd/', type: '5', mode: 0o711 },
      { name: 'g', data: 'file' },
      { name: 'f/', type: '5' },
    ],
    { prepare },
  );
  assert.equal(lstatSync(`${root}/d`).mode & 0o7777, 0o711);
  assert.equal(existsSync(`${root}/d/e`), true);
  assert.equal(lstatSync(`${root}/g`).isFile(), true);
  assert.equal(lstatSync(`${root}/f`).isDirectory(), true);
});

test('missing folders are made for root, and times of folders are those of their entries', async (t) => {
  const { root, content } = await unpack(t, [
    { name: 'd/', type: '5', mtime: 5000 },
    { name: 'd/f', data: 'x', uid: 3 },
    { name: 'm/n/f', data: 'x', uid: 3 },
  ]);
  assert.equal(lstatSync(`${root}/d`).mtimeMs, 5_000_000);
  const made = lstatSync(`${root}/m/n`);
  assert.deepEqual([made.uid, made.mode & 0o777], [0, 0o777 & ~process.umask()]);
  assert.equal(content.inodes, 5);
});

test('whiteouts become marks of overlay', async (t) => {
  const { root, content } = await unpack(t, [
    { name: 'd/.wh.gone', uid: 4, gid: 5 },
    { name: 'o/.wh..wh..opq' },
    { name: '.wh..wh.plnk' },
    { name: 'd/f', uid: 1, gid: 2 },
  ]);
  const stat = lstatSync(`${root}/d/gone`);
  assert.ok(isWhiteout(`${root}/d/gone`));
  assert.deepEqual([stat.uid, stat.gid, stat.mode & 0o7777], [4, 5, 0]);
  assert.equal(lgetxattr(`${root}/o`, 'trusted.overlay.opaque')?.toString(), 'y');
  assert.ok(isWhiteout(`${root}/.wh.plnk`));
  assert.deepEqual([content.uids, content.gids], [[1], [2]]);
});

test('a whiteout and its name in one layer', async (t) => {
  const { root } = await unpack(t, [
    { name: '.wh.a' },
    { name: 'a', data: 'x' },
    { name: '.wh.d' },
    { name: 'd/', type: '5' },
    { name: 'd/f' },
  ]);
  assert.equal(lstatSync(`${root}/a`).isFile(), true);
  assert.equal(lgetxattr(`${root}/d`, 'trusted.overlay.opaque'), undefined);
  await assert.rejects(unpack(t, [{ name: 'a', data: 'x' }, { name: '.wh.a' }]), /EEXIST/);
  await assert.rejects(unpack(t, [{ name: '.wh.a' }, { name: 'a/child' }]), /ENOTDIR/);
  const ignored = await unpack(t, [{ name: 'f', data: 'x' }, { name: 'f/.wh.a' }]);
  assert.equal(lstatSync(`${ignored.root}/f`).isFile(), true);
});

test('whiteouts without a proper name are refused', async (t) => {
  for (const name of ['.wh.', 'd/.wh..', 'd/.wh...'])
    await assert.rejects(unpack(t, [{ name }]), /whiteout without a name/, name);
});

test('with the vfs driver whiteouts delete what the parent has, not what this layer brought', async (t) => {
  const prepare = (root: string) => {
    mkdirSync(`${root}/d/lower`, { recursive: true });
    mkdirSync(`${root}/d/deep/lower`, { recursive: true });
    writeFileSync(`${root}/gone`, 'x');
  };
  const entries = [
    { name: 'd/mine', data: 'x' },
    { name: 'd/deep/down/mine', data: 'x' },
    { name: 'd/.wh..wh..opq' },
    { name: '.wh.gone' },
    { name: '.wh.never' },
  ];
  const { root } = await unpack(t, entries, { prepare, whiteouts: 'delete' });
  assert.deepEqual(readdirSync(`${root}/d`).sort(), ['deep', 'mine']);
  assert.deepEqual(readdirSync(`${root}/d/deep`), ['down']);
  assert.deepEqual(readdirSync(`${root}/d/deep/down`), ['mine']);
  assert.equal(existsSync(`${root}/gone`), false);
});

test('modes, owners, times, devices and attributes', async (t) => {
  const { root } = await unpack(t, [
    { name: 'suid', data: 'x', mode: 0o6755, uid: 3_000_000, gid: 5, pax: { mtime: '1700000000.123456789' } },
    { name: 'sticky/', type: '5', mode: 0o1777 },
    { name: 'null', type: '3', device: [1, 3], mode: 0o666 },
    { name: 'loop', type: '4', device: [7, 300], mode: 0o660 },
    { name: 'pipe', type: '6', mode: 0o622 },
    {
      name: 'x',
      data: 'x',
      pax: {
        'SCHILY.xattr.user.a': Buffer.from([1, 0, 2]),
        'SCHILY.xattr.security.selinux': 'x',
        'LIBARCHIVE.xattr.user.b': 'x',
      },
    },
    { name: 'old', mtime: -100 },
  ]);
  const suid = statAt(undefined, `${root}/suid`);
  assert.deepEqual(
    [suid.mode & 0o7777, suid.uid, suid.gid, suid.mtimeNs],
    [0o6755, 3_000_000, 5, 1_700_000_000_123_456_789n],
  );
  assert.equal(lstatSync(`${root}/sticky`).mode & 0o7777, 0o1777);
  const device = statAt(undefined, `${root}/loop`);
  assert.deepEqual([device.rdevMajor, device.rdevMinor, device.mode & 0o7777], [7, 300, 0o660]);
  assert.equal(lstatSync(`${root}/pipe`).isFIFO(), true);
  assert.deepEqual(lgetxattr(`${root}/x`, 'user.a'), Buffer.from([1, 0, 2]));
  assert.equal(lgetxattr(`${root}/x`, 'user.b'), undefined);
  assert.equal(statAt(undefined, `${root}/old`).mtimeNs, -100_000_000_000n);
});

test('types that no layer has, and names twice, are refused', async (t) => {
  for (const type of ['7', 'S', 'V', 'Z'])
    await assert.rejects(unpack(t, [{ name: 'x', type }]), /unhandled tar header type/, type);
  await assert.rejects(unpack(t, [{ name: 'a' }, { name: './a' }]), /duplicates of file paths not supported/);
  await assert.rejects(
    unpack(t, [
      { name: 'd/', type: '5' },
      { name: 'd', type: '5' },
    ]),
    /duplicates/,
  );
  const global = { name: 'pax_global_header', type: 'g', data: paxData({ comment: 'x' }) };
  await assert.rejects(unpack(t, [global, global]), /duplicates/);
  await assert.rejects(unpack(t, [{ name: 'x', uid: -1 }]), /id -1 is out of range/);
});

test('names of any bytes work', async (t) => {
  const name = Buffer.from([0x61, 0xff, 0xfe]);
  const { root, tarSplit } = await unpack(t, [
    { name, data: 'x' },
    { name: 'ä/ö', data: 'y' },
  ]);
  assert.deepEqual(
    readdirSync(root, { encoding: 'buffer' })
      .map((found) => found.toString('hex'))
      .sort(),
    ['61fffe', 'c3a4'],
  );
  assert.match(tarSplit, /"name_raw":"Yf\/\+"/);
  assert.match(tarSplit, /"name":"ä\/ö"/);
});

test('the compression is told by the first bytes, and both forms are hashed', async (t) => {
  const archive = buildTar([
    { name: 'f', data: Buffer.alloc(700_000, 'abc') },
    { name: 'g', data: 'x' },
  ]);
  const half = Math.floor(archive.length / 2);
  const [first, second] = [archive.subarray(0, half), archive.subarray(half)];
  const skippable = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0]), Buffer.from('skip')]);
  const forms = {
    none: archive,
    gzip: Buffer.concat([gzipSync(first), gzipSync(second)]),
    zstd: Buffer.concat([zstdCompressSync(first), skippable, zstdCompressSync(second), skippable]),
    xz: Buffer.concat([compress('xz', first), compress('xz', second)]),
    bzip2: Buffer.concat([compress('bzip2', first), compress('bzip2', second)]),
  };
  for (const [compression, blob] of Object.entries(forms)) {
    const { root, content } = await unpack(t, blob, { pieces: 7 });
    const digest = (data: Buffer) => `sha256:${createHash('sha256').update(data).digest('hex')}`;
    assert.equal(content.compression, compression);
    assert.deepEqual([content.diffDigest, content.diffSize], [digest(archive), archive.length]);
    assert.deepEqual([content.compressedDigest, content.compressedSize], [digest(blob), blob.length]);
    assert.equal(readFileSync(`${root}/f`).length, 700_000);
  }
});

function compress(program: string, input: Buffer): Buffer {
  return execFileSync(program, ['-c', '-1'], { input, maxBuffer: 1 << 28 });
}

test('CVE-2021-20291: a damaged or cut off blob is an error, never a hang', { timeout: 20_000 }, async (t) => {
  const blob = gzipSync(buildTar([{ name: 'f', data: randomBytes(400_000) }]));
  await assert.rejects(unpack(t, blob.subarray(0, blob.length - 100), { pieces: 5 }));
  const broken = Buffer.from(blob);
  broken.fill(0xa5, 2000, 2100);
  await assert.rejects(unpack(t, broken, { pieces: 50 }));
  await assert.rejects(
    unpack(t, Buffer.from('this is no archive, but long enough to be a block'.repeat(20))),
    /checksum|no number/,
  );
  assert.equal((await unpack(t, Buffer.alloc(0))).content.diffSize, 0);
});

test('archives of GNU tar come out as GNU tar unpacks them', async (t) => {
  const source = mkdtempSync(`${tmpdir()}/unpack-source-`);
  t.after(() => rmSync(source, { recursive: true }));
  execFileSync('sh', ['-ec', sampleTree], { cwd: source });
  for (const format of ['gnu', 'pax', 'ustar', 'v7']) {
    const leftOut = format === 'v7' || format === 'ustar' ? ['--exclude=long*'] : [];
    if (format === 'v7') leftOut.push('--exclude=./null', '--exclude=./pipe');
    const archive = execFileSync(
      'tar',
      [
        '--numeric-owner',
        '--xattrs',
        `--format=${format}`,
        ...(format === 'pax' ? [] : ['--no-xattrs']),
        ...leftOut,
        '-cf',
        '-',
        '.',
      ],
      {
        cwd: source,
        maxBuffer: 1 << 28,
      },
    );
    const { root } = await unpack(t, archive, { pieces: 3 });
    const expected = mkdtempSync(`${tmpdir()}/unpack-expected-`);
    t.after(() => rmSync(expected, { recursive: true }));
    execFileSync('tar', ['--numeric-owner', '--xattrs', '--same-permissions', '-xf', '-'], {
      cwd: expected,
      input: archive,
    });
    assert.equal(treeText(root), treeText(expected), format);
  }
});

const sampleTree = `
  mkdir -p usr/bin etc var/empty; chmod 1777 var/empty; echo hello > etc/file; chown 12:34 etc/file
  head -c 100000 /dev/urandom > usr/bin/big; chmod 4755 usr/bin/big; ln usr/bin/big usr/bin/hard; ln -s ../../etc/file usr/bin/link
  : > empty; mknod null c 1 3; mkfifo pipe; setfattr -n user.test -v value etc/file 2>/dev/null || true
  n=long; for i in 1 2 3 4 5 6 7 8 9 10; do n=$n/abcdefghijklmnopqrstuvwxyz; done; mkdir -p $n; echo deep > $n/file
  touch -d '2020-01-02 03:04:05.123456789' etc/file; touch -d '1980-01-01' empty
`;

/** Type, mode, owner, links, size, time and target of everything below `root`. */
function treeText(root: string): string {
  const format = '%P %y %m %U:%G %n %s %T@ %l\\n';
  const list = execFileSync('find', ['.', '-mindepth', '1', '-not', '-type', 'd', '-printf', format], {
    cwd: root,
    encoding: 'utf8',
  });
  const folders = execFileSync('find', ['.', '-mindepth', '1', '-type', 'd', '-printf', '%P %m %U:%G %T@\\n'], {
    cwd: root,
    encoding: 'utf8',
  });
  const sums = execFileSync('sh', ['-c', 'find . -type f -exec sha256sum {} +'], { cwd: root, encoding: 'utf8' });
  return [list, folders, sums].map((text) => text.split('\n').sort().join('\n')).join('\n');
}
