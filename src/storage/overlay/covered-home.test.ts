import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMountInfo } from '../../sys/mount.ts';
import { isUselessCover } from './covered-home.ts';

const home = '/var/lib/containers/storage/overlay';
const root = '20 1 254:0 / / rw - ext4 /dev/vda rw';
const merged = `30 20 0:40 / ${home}/a/merged rw - overlay overlay rw`;
const cover = `40 20 254:0 ${home} ${home} rw - ext4 /dev/vda rw`;

function check(...lines: readonly string[]): boolean {
  return isUselessCover(home, parseMountInfo(`${lines.join('\n')}\n`));
}

test('a bind of the home onto itself that hides mounts is taken away', () => {
  assert.equal(check(root, merged, cover), true);
});

test('it stays when it hides nothing, or when something is mounted on it', () => {
  assert.equal(check(root, merged), false);
  assert.equal(check(root, cover), false);
  assert.equal(check(root, merged, cover, `50 40 0:41 / ${home}/b/merged rw - overlay overlay rw`), false);
});

test('a file system of its own for the home stays', () => {
  assert.equal(check(root, merged, `40 20 254:1 / ${home} rw - ext4 /dev/vdb rw`), false);
  const disk = '25 20 254:1 / /var/lib/containers rw - ext4 /dev/vdb rw';
  const below = `30 25 0:40 / ${home}/a/merged rw - overlay overlay rw`;
  assert.equal(check(root, disk, below, `40 25 254:1 /storage/overlay ${home} rw - ext4 /dev/vdb rw`), true);
  assert.equal(check(root, disk, below, `40 25 254:1 /other ${home} rw - ext4 /dev/vdb rw`), false);
});
