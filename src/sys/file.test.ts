import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR, architecture, architectureOf } from './arch.ts';
import {
  AT_REMOVEDIR,
  RENAME_NOREPLACE,
  linkat,
  makeDevice,
  mkdirat,
  mkfifo,
  openInRoot,
  readlinkat,
  renameat2,
  statAt,
  symlinkat,
  unlinkat,
  utimensat,
} from './file.ts';

const folder = mkdtempSync(join(tmpdir(), 'sys-file-'));
const root = openSync(folder, O_RDONLY | O_DIRECTORY);
after(() => {
  closeSync(root);
  rmSync(folder, { recursive: true });
});

test('the table of this architecture agrees with the one Node was built with', () => {
  assert.equal(architecture.O_DIRECTORY, constants.O_DIRECTORY);
  assert.equal(architecture.O_NOFOLLOW, constants.O_NOFOLLOW);
  assert.equal(architecture.O_DIRECT, constants.O_DIRECT);
  assert.equal(architectureOf('arm64').O_DIRECTORY, 0o40000);
  assert.throws(() => architectureOf('ia32'), /not supported/);
});

test('openInRoot stays inside, whatever links say', () => {
  writeFileSync(join(folder, 'inside'), 'in');
  symlinkSync('/inside', join(folder, 'absolute'));
  symlinkSync('../../../inside', join(folder, 'dotdot'));
  symlinkSync('/proc/self/root/etc/passwd', join(folder, 'magic'));
  for (const name of ['absolute', 'dotdot', '../../inside', '/inside']) {
    const fd = openInRoot(root, name, O_RDONLY);
    assert.equal(readFileSync(fd, 'utf8'), 'in', name);
    closeSync(fd);
  }
  assert.throws(() => openInRoot(root, 'magic', O_RDONLY), { code: 'ENOENT', syscall: 'openat2' });
  assert.throws(() => openInRoot(root, 'absolute', O_RDONLY | O_NOFOLLOW), { code: 'ELOOP' });
});

test('openInRoot creates with the mode asked for', () => {
  const fd = openInRoot(root, 'created', O_RDWR | O_CREAT | O_EXCL, 0o640);
  closeSync(fd);
  assert.equal(statSync(join(folder, 'created')).mode & 0o777, 0o640);
});

test('names that are not UTF-8 survive', () => {
  const name = Buffer.from([0x66, 0xff, 0xfe]);
  mkdirat(root, name, 0o700);
  assert.ok((statAt(root, name).mode & 0o170000) === 0o040000);
  unlinkat(root, name, AT_REMOVEDIR);
  symlinkat(name, root, 'to-bytes');
  assert.deepEqual(readlinkat(root, 'to-bytes'), name);
});

test('a NUL inside a path is refused', () => {
  assert.throws(() => mkdirat(root, 'a\0b', 0o700), { code: 'EINVAL' });
  assert.throws(() => mkdirat(root, Buffer.from('a\0b'), 0o700), { code: 'EINVAL' });
});

test('readlinkat reads long targets', () => {
  const target = 'x/'.repeat(1000);
  symlinkat(target, root, 'long');
  assert.equal(readlinkat(root, 'long').toString(), target);
});

test('linkat and renameat2 report the new name', () => {
  writeFileSync(join(folder, 'one'), '1');
  linkat(root, 'one', root, 'two');
  assert.equal(statAt(root, 'two').links, 2);
  assert.throws(() => renameat2(root, 'one', root, 'inside', RENAME_NOREPLACE), { code: 'EEXIST', path: 'inside' });
  renameat2(root, 'one', root, 'three');
  assert.throws(() => statAt(root, 'one'), { code: 'ENOENT' });
});

test('times go in and come out to the nanosecond, also before 1970', () => {
  writeFileSync(join(folder, 'timed'), '');
  const range = { min: -2_000_000_000_000_000_000n, max: 4_000_000_000_000_000_000n };
  fc.assert(
    fc.property(fc.bigInt(range), fc.bigInt(range), (atimeNs, mtimeNs) => {
      utimensat(root, 'timed', { atimeNs, mtimeNs });
      const stat = statAt(root, 'timed');
      assert.deepEqual([stat.atimeNs, stat.mtimeNs], [atimeNs, mtimeNs]);
    }),
    { numRuns: 50 },
  );
});

test('mkfifo makes one, statAt sees what it is', () => {
  mkfifo(join(folder, 'fifo'), 0o600);
  assert.equal(statAt(root, 'fifo').mode & 0o170777, 0o010600);
});

test('statAt agrees with node:fs', () => {
  mkdirSync(join(folder, 'dir'));
  const own = statAt(root, 'dir');
  const node = statSync(join(folder, 'dir'), { bigint: true });
  assert.deepEqual(
    [BigInt(own.mode), own.inode, own.mtimeNs, own.ctimeNs, BigInt(own.uid), own.blocks],
    [node.mode, node.ino, node.mtimeNs, node.ctimeNs, node.uid, node.blocks],
  );
  assert.equal(makeDevice(own.deviceMajor, own.deviceMinor), node.dev);
});

test('makeDevice encodes as glibc does', () => {
  assert.equal(makeDevice(1, 3), 0x103n);
  assert.equal(makeDevice(0xabcde, 0x12345), 0xab000123cde45n);
});

test('readlinkSync of what symlinkat made', () => {
  symlinkat('target', root, 'plain');
  assert.equal(readlinkSync(join(folder, 'plain')), 'target');
});
