import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { silentLog } from '../base/log.ts';
import type { ContainerMount } from '../container/config.ts';
import { mountImageVolumes } from './image-volumes.ts';

/** Mounts. Root, and a mount namespace of their own. */
const folder = mkdtempSync(join(tmpdir(), 'image-volumes-'));
after(() => rmSync(folder, { recursive: true }));

const [image, bundle] = [join(folder, 'image'), join(folder, 'bundle')];
for (const path of [join(image, 'data'), bundle]) mkdirSync(path, { recursive: true });
writeFileSync(join(image, 'data/file'), 'inside');
symlinkSync('/data', join(image, 'link'));
symlinkSync('../../../../../../..', join(image, 'escape'));

function mountOf(change: Partial<ContainerMount>): ContainerMount {
  return {
    containerPath: '/in',
    hostPath: '',
    readonly: true,
    selinuxRelabel: false,
    propagation: 0,
    uidMappings: [],
    gidMappings: [],
    recursiveReadOnly: false,
    image: 'name',
    imageSubPath: '',
    mountOptions: [],
    ...change,
  };
}

function mountAll(undo: AsyncDisposableStack, change: Partial<ContainerMount>) {
  return mountImageVolumes({
    mounts: [mountOf(change)],
    bundle,
    emptyDirectory: join(folder, 'empty'),
    mountImage: async (name) => (name === 'name' ? { id: 'id', path: image } : undefined),
    log: silentLog,
    undo,
  });
}

test('an image becomes the lower layer of an overlay, and status names its id', async () => {
  await using undo = new AsyncDisposableStack();
  const { mounts, volumes } = await mountAll(undo, {});
  assert.deepEqual(mounts[0]?.options, [`lowerdir=${image}:${join(folder, 'empty')}`]);
  assert.equal(volumes.get('/in')?.[0]?.image, 'id');
});

test('a sub path is bound, through links that stay in the image', async () => {
  await using undo = new AsyncDisposableStack();
  const { mounts } = await mountAll(undo, { imageSubPath: 'link' });
  const lower = /^lowerdir=([^:]+):/.exec(mounts[0]?.options?.[0] ?? '')?.[1] ?? '';
  assert.match(lower, /\/bundle\/subpath[0-9a-f]+$/);
  assert.equal(readFileSync(join(lower, 'file'), 'utf8'), 'inside');
});

test('CVE-2024-1753, CVE-2024-9407, CVE-2024-9675: a sub path does not leave the image', async () => {
  await using undo = new AsyncDisposableStack();
  const { mounts } = await mountAll(undo, { imageSubPath: 'escape/data' });
  const lower = /^lowerdir=([^:]+):/.exec(mounts[0]?.options?.[0] ?? '')?.[1] ?? '';
  assert.equal(readFileSync(join(lower, 'file'), 'utf8'), 'inside');
  await assert.rejects(mountAll(undo, { imageSubPath: '../../etc' }), {
    message: 'ImageVolumeMountFailed: sub path "../../etc" does not exist in image volume "name"',
  });
});

test('an image that is not there is an error that kubelet shows', async () => {
  await using undo = new AsyncDisposableStack();
  await assert.rejects(mountAll(undo, { image: 'other' }), {
    message: 'ImageVolumeMountFailed: image "other" does not exist locally',
  });
});
