import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { getuid } from 'node:process';
import { test } from 'node:test';
import { makeRootfs, type TestRootfs } from './rootfs.fixture.ts';
import { checkHome, makeUserFiles } from './user-files.ts';
import type { UserLookup } from './users.ts';

const stranger: UserLookup = {
  uid: 4242,
  gid: 4343,
  additionalGids: [4343],
  userText: '4242',
  uidHasEntry: false,
  gidHasEntry: false,
};

function make(rootfs: TestRootfs, change: { user?: Partial<UserLookup>; home?: string } = {}) {
  return makeUserFiles({
    rootFd: rootfs.fd,
    bundle: rootfs.bundle,
    user: { ...stranger, ...change.user },
    home: change.home,
    uidMap: [],
  });
}

test('makeUserFiles gives a user without an entry one, in copies', async () => {
  using rootfs = makeRootfs({ 'etc/passwd': 'root:x:0:0::/:', 'etc/group': 'root:x:0:\n' });
  chmodSync(join(rootfs.path, 'etc/passwd'), 0o640);
  const mounts = await make(rootfs, { home: '/home/x' });
  assert.deepEqual(
    mounts.map(({ destination }) => destination),
    ['/etc/passwd', '/etc/group'],
  );
  const passwd = join(rootfs.bundle, 'passwd');
  assert.equal(readFileSync(passwd, 'utf8'), 'root:x:0:0::/:\n4242:x:4242:4343:4242 user:/home/x:/sbin/nologin\n');
  assert.equal(readFileSync(join(rootfs.bundle, 'group'), 'utf8'), 'root:x:0:\n4343:x:4343:\n');
  assert.equal(statSync(passwd).mode & 0o7777, 0o640);
});

test('makeUserFiles leaves files alone that are empty, missing or writable by the user', async () => {
  using missing = makeRootfs();
  assert.deepEqual(await make(missing), []);
  using empty = makeRootfs({ 'etc/passwd': '' });
  assert.deepEqual(await make(empty), []);
  using open = makeRootfs({ 'etc/passwd': 'x' });
  chmodSync(join(open.path, 'etc/passwd'), 0o664);
  assert.deepEqual(await make(open), []);
  using own = makeRootfs({ 'etc/passwd': 'x' });
  assert.deepEqual(await make(own, { user: { uid: getuid?.() ?? 0, gidHasEntry: true } }), []);
});

test('makeUserFiles writes nothing for a user that has an entry', async () => {
  using rootfs = makeRootfs({ 'etc/passwd': 'x', 'etc/group': 'x' });
  assert.deepEqual(await make(rootfs, { user: { uidHasEntry: true, gidHasEntry: true } }), []);
});

test('CVE-2022-4318, CVE-2026-15809: HOME adds no line to passwd', async () => {
  const evil = 'x\nroot2:x:0:0::/:/bin/sh';
  for (const home of [evil, '\n', 'a\rb', '/a\u2028b', '/a\u0085b']) {
    assert.throws(
      () => checkHome(home),
      { message: 'invalid HOME environment; newline not allowed' },
      JSON.stringify(home),
    );
  }
  assert.equal(checkHome(undefined), '/');
  assert.equal(checkHome('/home/app'), '/home/app');
  assert.equal(checkHome('/x:/bin/sh'), '/');
  using rootfs = makeRootfs({ 'etc/passwd': 'x' });
  // also when the user has an entry and nothing would be written
  await assert.rejects(make(rootfs, { home: evil, user: { uidHasEntry: true } }), /newline not allowed/);
});
