import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseMountInfo } from '../sys/mount.ts';
import { followSource, makeSource } from './mount-source.ts';
import { SpareThreads } from './spare-threads.ts';

const folder = mkdtempSync(join(tmpdir(), 'spare-'));
after(() => rmSync(folder, { recursive: true }));
symlinkSync('target', join(folder, 'link'));

const local = parseMountInfo('1 0 8:1 / / rw - ext4 a rw');
const remote = parseMountInfo('1 0 8:1 / / rw - ext4 a rw\n2 1 0:9 / /mnt rw - nfs4 server:/ rw');

for (const [name, mountInfo] of Object.entries({ local, remote })) {
  test(`sources are followed and made on a node with ${name} file systems`, async () => {
    const target = join(folder, 'target', name);
    await makeSource(target, mountInfo);
    assert.equal(statSync(target).mode & 0o777, 0o755);
    assert.equal(await followSource(join(folder, 'link'), mountInfo), join(folder, 'target'));
    assert.equal(await followSource(target, mountInfo), target);
    assert.equal(await followSource(join(folder, 'none'), mountInfo), undefined);
    await assert.rejects(followSource(`${process.execPath}/below`, mountInfo), { code: 'ENOTDIR' });
  });
}

test('SpareThreads answers many questions at once, each with its own answer', async () => {
  const threads = new SpareThreads();
  const paths = ['/', '/usr', '/etc', '/var'];
  assert.deepEqual(await Promise.all(paths.map((path) => threads.run('follow', path))), paths);
});

test('SpareThreads gives a thread up that does not answer in time', async () => {
  const threads = new SpareThreads(0);
  await assert.rejects(threads.run('follow', '/usr'), {
    kind: 'deadline',
    message: 'look at "/usr": its file system does not answer',
  });
});
