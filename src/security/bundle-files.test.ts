import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { getgid, getuid } from 'node:process';
import { test } from 'node:test';
import { allowTraversal } from './allow-traversal.ts';
import { makeRootfs } from './rootfs.fixture.ts';
import { makeSecrets, parseMountsFile } from './secrets.ts';
import { setTimezone } from './timezone.ts';

const rootOwner = { uid: getuid?.() ?? 0, gid: getgid?.() ?? 0 };

test('makeSecrets copies files and folders with their modes, and follows links', async () => {
  using rootfs = makeRootfs({ 'host/secret': 'key', 'host/sub/other': 'x' });
  const source = join(rootfs.path, 'host');
  chmodSync(join(source, 'secret'), 0o440);
  symlinkSync('secret', join(source, 'link'));
  const mountsFile = join(rootfs.path, 'mounts.conf');
  writeFileSync(mountsFile, `${source}:/run/secrets\n/nowhere:/run/none\n${source}:/taken\nnonsense\n`);
  const mounts = await makeSecrets({ bundle: rootfs.bundle, mountsFile, mounted: new Set(['/taken']), rootOwner });
  const copy = join(rootfs.bundle, 'run/secrets');
  assert.deepEqual(mounts, [
    { destination: '/run/secrets', type: 'bind', source: copy, options: ['bind', 'rprivate'] },
  ]);
  assert.equal(statSync(join(copy, 'secret')).mode & 0o777, 0o440);
  assert.equal(readFileSync(join(copy, 'link'), 'utf8'), 'key');
  assert.equal(readFileSync(join(copy, 'sub/other'), 'utf8'), 'x');
});

test('makeSecrets survives links in a circle', async () => {
  using rootfs = makeRootfs({ 'host/file': 'x' });
  symlinkSync('.', join(rootfs.path, 'host/circle'));
  const mountsFile = join(rootfs.path, 'mounts.conf');
  writeFileSync(mountsFile, `${join(rootfs.path, 'host')}:/run/secrets\n`);
  assert.equal((await makeSecrets({ bundle: rootfs.bundle, mountsFile, mounted: new Set(), rootOwner })).length, 1);
});

test('parseMountsFile keeps destinations below the root', () => {
  assert.deepEqual(parseMountsFile('/a:/../../b\n:x\n/a\n'), [{ source: '/a', destination: '/b' }]);
});

test('setTimezone links to the zone of the image', async () => {
  using without = makeRootfs();
  const request = { timezone: 'Etc/UTC', rootOwner, rootFd: without.fd, bundle: without.bundle };
  assert.deepEqual(await setTimezone({ ...request, timezone: '' }), []);
  using own = makeRootfs({ 'usr/share/zoneinfo/Etc/UTC': 'zone', 'etc/localtime': 'old' });
  assert.deepEqual(await setTimezone({ ...request, rootFd: own.fd, bundle: own.bundle }), []);
  assert.equal(readlinkSync(join(own.path, 'etc/localtime')), '/usr/share/zoneinfo/Etc/UTC');
});

test('allowTraversal adds search bits only, and only to what the mapped root does not own', async () => {
  using rootfs = makeRootfs();
  const [outer, inner] = [join(rootfs.path, 'outer'), join(rootfs.path, 'outer/inner')];
  mkdirSync(inner, { recursive: true });
  for (const path of [outer, inner]) chmodSync(path, 0o700);
  await allowTraversal(inner, rootOwner);
  assert.equal(statSync(inner).mode & 0o777, 0o700);
  await allowTraversal(inner, { uid: 100_000, gid: 100_000 });
  assert.deepEqual([statSync(outer).mode & 0o777, statSync(inner).mode & 0o777], [0o711, 0o711]);
});
