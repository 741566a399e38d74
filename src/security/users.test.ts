import assert from 'node:assert/strict';
import { symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ContainerSecurityContext } from '../container/config.ts';
import { mkfifo } from '../sys/file.ts';
import { makeRootfs, type TestRootfs } from './rootfs.fixture.ts';
import { resolveUser, type UserLookup } from './users.ts';

const noContext: ContainerSecurityContext = {
  addCapabilities: [],
  dropCapabilities: [],
  privileged: false,
  namespaceOptions: undefined,
  selinux: undefined,
  runAsUser: undefined,
  runAsGroup: undefined,
  runAsUsername: '',
  readonlyRootfs: false,
  supplementalGroups: [],
  supplementalGroupsPolicy: 'merge',
  noNewPrivs: false,
  maskedPaths: [],
  readonlyPaths: [],
  seccomp: undefined,
  apparmor: undefined,
  apparmorProfile: '',
};

const files = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n2000:x:0:0:trap:/:/bin/sh\n',
  'etc/group': 'root:x:0:root\napp:x:1001:\nvideo:x:44:app,root\naudio:x:29:other,app\n3000:x:0:\n',
};

async function lookUp(
  rootfs: TestRootfs,
  imageUser: string,
  context: Partial<ContainerSecurityContext> = {},
): Promise<UserLookup> {
  return resolveUser({ rootFd: rootfs.fd, context: { ...noContext, ...context }, imageUser });
}

function ids({ uid, gid, additionalGids }: UserLookup): [number, number, readonly number[]] {
  return [uid, gid, additionalGids];
}

test('resolveUser looks names up in the files of the image', async () => {
  using rootfs = makeRootfs(files);
  assert.deepEqual(ids(await lookUp(rootfs, 'app')), [1000, 1001, [1001, 44, 29]]);
  assert.deepEqual(ids(await lookUp(rootfs, 'app:video')), [1000, 44, [44, 29]]);
  assert.deepEqual(ids(await lookUp(rootfs, '')), [0, 0, [0, 44]]);
  assert.deepEqual(ids(await lookUp(rootfs, '1000')), [1000, 1001, [1001, 44, 29]]);
  assert.deepEqual(ids(await lookUp(rootfs, '1234:5678')), [1234, 5678, [5678]]);
});

test('resolveUser: the request wins over the image', async () => {
  using rootfs = makeRootfs(files);
  assert.deepEqual(ids(await lookUp(rootfs, 'root', { runAsUser: 1000 })), [1000, 1001, [1001, 44, 29]]);
  assert.deepEqual(ids(await lookUp(rootfs, 'root', { runAsUsername: 'app', runAsUser: 0 })), [
    1000,
    1001,
    [1001, 44, 29],
  ]);
  const strict = {
    runAsUser: 1000,
    runAsGroup: 7,
    supplementalGroups: [8, 7],
    supplementalGroupsPolicy: 'strict' as const,
  };
  assert.deepEqual(ids(await lookUp(rootfs, '', strict)), [1000, 7, [7, 8]]);
});

test('resolveUser without a security context is root', async () => {
  using rootfs = makeRootfs(files);
  const user = await resolveUser({ rootFd: rootfs.fd, context: undefined, imageUser: 'app' });
  assert.deepEqual(ids(user), [0, 0, [0, 44]]);
});

test('resolveUser refuses unknown names and a group without a user', async () => {
  using rootfs = makeRootfs(files);
  await assert.rejects(lookUp(rootfs, 'nobody'), {
    message: 'unable to find user nobody: no matching entries in passwd file',
  });
  await assert.rejects(lookUp(rootfs, 'app:nogroup'), {
    message: 'unable to find group nogroup: no matching entries in group file',
  });
  await assert.rejects(lookUp(rootfs, 'app', { runAsGroup: 1 }), {
    message: 'user group is specified without user or username',
  });
  using empty = makeRootfs();
  await assert.rejects(lookUp(empty, 'app'), /unable to find user app/);
});

test('CVE-2026-46680, CVE-2024-40635: a number is never a name and never wraps', async () => {
  using rootfs = makeRootfs(files);
  assert.deepEqual(ids(await lookUp(rootfs, '2000')), [2000, 0, [0]]);
  assert.deepEqual(ids(await lookUp(rootfs, '1:3000')), [1, 3000, [3000]]);
  for (const user of ['2147483648', '4294967296', '18446744073709551616', `1${'0'.repeat(40)}`]) {
    await assert.rejects(lookUp(rootfs, user), { message: `user id "${user}" is out of range 0-2147483647` });
    await assert.rejects(lookUp(rootfs, `0:${user}`), /group id .* is out of range/);
  }
  await assert.rejects(lookUp(rootfs, '', { runAsUser: 2 ** 32 }), /out of range/);
  await assert.rejects(lookUp(rootfs, '-1'), /unable to find user -1/);
});

test('CVE-2022-2995: a negative supplementary group is refused', async () => {
  using rootfs = makeRootfs(files);
  await assert.rejects(lookUp(rootfs, '', { supplementalGroups: [-1] }), {
    message: 'group id "-1" is out of range 0-2147483647',
  });
});

test('CVE-2023-25173: the primary group is among the groups', async () => {
  using rootfs = makeRootfs(files);
  const { additionalGids } = await lookUp(rootfs, '', { runAsUser: 5, runAsGroup: 6, supplementalGroups: [9] });
  assert.deepEqual(additionalGids, [6, 9]);
});

test('CVE-2025-4437, CVE-2026-47262: giant passwd and group files are refused', async () => {
  using rootfs = makeRootfs(files);
  truncateSync(join(rootfs.path, 'etc/group'), 2 ** 40);
  await assert.rejects(lookUp(rootfs, 'app'), /line longer than/);
  truncateSync(join(rootfs.path, 'etc/passwd'), 2 ** 40);
  await assert.rejects(lookUp(rootfs, 'ghost'), /line longer than/);
  const lines = 'user:x:5:5:a comment of some length:/home/user:/bin/sh\n'.repeat(250_000);
  writeFileSync(join(rootfs.path, 'etc/passwd'), lines);
  await assert.rejects(lookUp(rootfs, 'ghost'), /larger than 10485760 bytes/);
});

test('CVE-2026-47262: a line of a million members does not fill the memory', async () => {
  using rootfs = makeRootfs({ ...files, 'etc/group': `big:x:5:${'u,'.repeat(600_000)}\n` });
  await assert.rejects(lookUp(rootfs, 'app'), /line longer than/);
});

test(
  'CVE-2024-9676: a FIFO, a device or a link out of the image in place of passwd does not exist',
  { timeout: 5000 },
  async () => {
    using fifo = makeRootfs({ 'etc/group': '' });
    mkfifo(join(fifo.path, 'etc/passwd'), 0o644);
    assert.deepEqual(ids(await lookUp(fifo, '7')), [7, 0, [0]]);
    using link = makeRootfs({ 'etc/group': '' });
    symlinkSync('../../../../../../../../etc/passwd', join(link.path, 'etc/passwd'));
    await assert.rejects(lookUp(link, 'daemon'), /unable to find user daemon/);
    using magic = makeRootfs({ 'etc/group': '' });
    symlinkSync('/proc/self/fd/0', join(magic.path, 'etc/passwd'));
    await assert.rejects(lookUp(magic, 'daemon'), /unable to find user daemon/);
    using inside = makeRootfs({ 'data/passwd': 'app:x:5:5::/:' });
    symlinkSync('/data', join(inside.path, 'etc'));
    assert.equal((await lookUp(inside, 'app')).uid, 5);
  },
);

test('resolveUser reads lines that lie across pieces of the file', async () => {
  const many = Array.from({ length: 20_000 }, (_, index) => `user${index}:x:${index + 1}:${index + 1}:ä:/:`).join('\n');
  using rootfs = makeRootfs();
  writeFileSync(join(makeRootfsEtc(rootfs), 'passwd'), many);
  assert.equal((await lookUp(rootfs, 'user19999')).uid, 20_000);
});

function makeRootfsEtc(rootfs: TestRootfs): string {
  symlinkSync('.', join(rootfs.path, 'etc'));
  return rootfs.path;
}
