import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../base/log.ts';
import { parseDriverOptions } from './driver-options.ts';

test('parseDriverOptions reads overlay options under all their prefixes', () => {
  const parsed = parseDriverOptions(
    [
      'overlay.mountopt=nodev,metacopy=on',
      'overlay2.imagestore=/a,/b',
      '.skip_mount_home=true',
      'overlay.mount_program=',
      'overlay.disable-volatile=true',
    ],
    silentLog,
  );
  assert.deepEqual(parsed, {
    mountOptions: ['nodev', 'metacopy=on'],
    additionalRoots: ['/a', '/b'],
    disableVolatile: true,
  });
});

test('parseDriverOptions refuses what it cannot do', () => {
  for (const option of [
    'overlay.unknown=1',
    'overlay.mount_program=/usr/bin/fuse-overlayfs',
    'overlay.use_composefs=true',
    'nonsense',
  ]) {
    assert.throws(() => parseDriverOptions([option], silentLog), /is not supported/, option);
  }
});
