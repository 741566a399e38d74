import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseMountInfo, readMountInfo } from './mount.ts';

test('parseMountInfo reads every field and unescapes paths', () => {
  const text =
    '36 35 98:0 /mnt1 /mnt\\040with\\134odd rw,noatime shared:1 master:7 - ext3 /dev/root rw,errors=continue\n' +
    '37 36 0:5 / /x ro - tmpfs tmpfs rw\n';
  assert.deepEqual(parseMountInfo(text), [
    {
      id: 36,
      parent: 35,
      majorMinor: '98:0',
      root: '/mnt1',
      mountPoint: '/mnt with\\odd',
      options: 'rw,noatime',
      optional: ['shared:1', 'master:7'],
      fsType: 'ext3',
      source: '/dev/root',
      superOptions: 'rw,errors=continue',
    },
    {
      id: 37,
      parent: 36,
      majorMinor: '0:5',
      root: '/',
      mountPoint: '/x',
      options: 'ro',
      optional: [],
      fsType: 'tmpfs',
      source: 'tmpfs',
      superOptions: 'rw',
    },
  ]);
});

test('parseMountInfo gives back any mount point that the kernel escaped', () => {
  const escape = (path: string) =>
    path.replace(/[ \t\n\\]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  fc.assert(
    fc.property(fc.array(fc.constantFrom('a', ' ', '\t', '\n', '\\', '0', '4', '-', 'é')), (chars) => {
      const path = `/${chars.join('')}`;
      const [mount] = parseMountInfo(`1 2 0:1 / ${escape(path)} rw - tmpfs none rw\n`);
      assert.equal(mount?.mountPoint, path);
    }),
  );
});

test('parseMountInfo drops lines it does not understand', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      assert.ok(Array.isArray(parseMountInfo(text)));
    }),
  );
});

test('readMountInfo finds the root and /proc of this process', () => {
  const mounts = readMountInfo();
  assert.ok(mounts.some((mount) => mount.mountPoint === '/'));
  assert.ok(mounts.some((mount) => mount.mountPoint === '/proc' && mount.fsType === 'proc'));
});
