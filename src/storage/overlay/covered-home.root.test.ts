import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { MS_BIND, mount, readMountInfo } from '../../sys/mount.ts';
import { CoveredHome, isUselessCover } from './covered-home.ts';
import { removeWithMounts } from '../testing/remove-with-mounts.ts';

test('a bind of the home that lies below another file system is left alone', (t) => {
  const base = mkdtempSync(`${tmpdir()}/covered-home-`);
  t.after(() => {
    removeWithMounts(base);
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
