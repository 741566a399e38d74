import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { MNT_DETACH, MS_BIND, mount, readMountInfo, umount } from '../../sys/mount.ts';
import { CoveredHome, isUselessCover } from './covered-home.ts';

test('a bind of the home that lies below another file system is left alone', (t) => {
  const base = mkdtempSync(`${tmpdir()}/covered-home-`);
  t.after(() => {
    for (const { mountPoint } of readMountInfo().reverse())
      if (mountPoint.startsWith(base)) umount(mountPoint, MNT_DETACH);
    rmSync(base, { recursive: true });
  });
  const home = `${base}/root/overlay`;
  mkdirSync(home, { recursive: true });
  mount(home, home, '', MS_BIND);
  mount('over', `${base}/root`, 'tmpfs', 0);
  mkdirSync(`${home}/layer/merged`, { recursive: true });
  mount('container', `${home}/layer/merged`, 'tmpfs', 0);
  assert.ok(isUselessCover(home, readMountInfo()), 'by its paths alone it would be one');
  using covered = new CoveredHome(home);
  covered.unmountAll('layer/merged');
  assert.ok(!readMountInfo().some(({ mountPoint }) => mountPoint.endsWith('/merged')));
});
