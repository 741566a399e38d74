import assert from 'node:assert/strict';
import { mkdirSync, rmSync, symlinkSync, truncateSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mkfifo } from '../sys/file.ts';
import { makeRootfs } from './rootfs.fixture.ts';
import { requireRunnable, requireUserFiles } from './runtime-traps.ts';

test('CVE-2024-9676: user files that a runtime would hang on are refused', () => {
  using rootfs = makeRootfs({ 'etc/group': '' });
  const passwd = join(rootfs.path, 'etc/passwd');
  requireUserFiles(rootfs.fd);
  mkfifo(passwd, 0o644);
  assert.throws(() => requireUserFiles(rootfs.fd), {
    message: 'read "/etc/passwd" of the image: it is no regular file',
  });
  unlinkSync(passwd);
  for (const target of ['/dev/zero', '../dev/tty', '/proc/self/fd/0', '../../../proc/kmsg']) {
    symlinkSync(target, passwd);
    assert.throws(() => requireUserFiles(rootfs.fd), /"\/etc\/passwd" of the image: it is a link to "\/(?:dev|proc)\//);
    unlinkSync(passwd);
  }
  for (const target of ['/nowhere', 'passwd', '../development']) {
    symlinkSync(target, passwd);
    requireUserFiles(rootfs.fd);
    unlinkSync(passwd);
  }
  symlinkSync('/dev', join(rootfs.path, 'devices'));
  symlinkSync('devices/./zero', join(rootfs.path, 'next'));
  for (const target of ['/next', '/devices/zero', '../nowhere/../next']) {
    symlinkSync(target, passwd);
    assert.throws(() => requireUserFiles(rootfs.fd), /it is a link to "\/dev\/zero"/);
    unlinkSync(passwd);
  }
  mkfifo(join(rootfs.path, 'pipe'), 0o644);
  symlinkSync('/pipe', passwd);
  assert.throws(() => requireUserFiles(rootfs.fd), /no regular file/);
});

test('CVE-2025-4437: user files of gigabytes are refused, whoever the user is', () => {
  using rootfs = makeRootfs({ 'etc/passwd': 'root:x:0:0::/:\n', 'etc/group': '' });
  requireUserFiles(rootfs.fd);
  truncateSync(join(rootfs.path, 'etc/group'), 10 * 1024 ** 3);
  assert.throws(() => requireUserFiles(rootfs.fd), {
    message: 'read "/etc/group" of the image: larger than 10485760 bytes',
  });
  rmSync(join(rootfs.path, 'etc'), { recursive: true });
  requireUserFiles(rootfs.fd);
  mkdirSync(join(rootfs.path, 'etc/passwd'), { recursive: true });
  assert.throws(() => requireUserFiles(rootfs.fd), /no regular file/);
});

test('commands and variables that execve refuses are refused with a short text', () => {
  requireRunnable({ args: ['sh', 'x'.repeat(131_071)], env: ['A=b'] });
  assert.throws(
    () => requireRunnable({ args: ['x'.repeat(4096)] }),
    /^CrioError: run "x{100}\.\.\.": file name too long$/,
  );
  assert.throws(() => requireRunnable({ args: ['sh', 'x'.repeat(131_072)] }), /argument list too long$/);
  assert.throws(() => requireRunnable({ args: ['sh'], env: ['ä'.repeat(65_536)] }), /argument list too long$/);
});
