import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { crashImages, serveImages } from '../../test/crash/images.ts';
import { assertNoLeftovers, imageFaults } from '../../test/crash/whole-store.ts';
import { run } from '../../test/fixtures/process.ts';
import { Call } from '../base/call.ts';
import { messageOf } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { defaultConfig } from '../config/config.ts';
import { openStore } from '../storage/open-store.ts';
import { createImages } from './create-images.ts';
import type { ImageService } from './create-images.ts';

const [first] = crashImages();

async function pullError(images: ImageService): Promise<string | undefined> {
  const call = new Call({ name: 'PullImage', id: 't', log: silentLog });
  try {
    await images.pull(call, { reference: first.name, namespace: '', cgroupParent: '', credentials: undefined });
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

test('a disk that is full at any step of a pull refuses it with path and cause, and nothing is left', async (t) => {
  await using world = new AsyncDisposableStack();
  const base = mkdtempSync(join(tmpdir(), 'full-disk-'));
  world.defer(() => rmSync(base, { recursive: true }));
  const folder = join(base, 'disk');
  mkdirSync(folder);
  run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', folder]);
  world.defer(() => void run('umount', ['-l', folder]));
  world.use(await serveImages([first]));
  const graphRoot = join(folder, 'root');
  const roots = { graphRoot, runRoot: join(base, 'run'), imageStore: '' };
  const store = world.use(await openStore({ ...roots, driver: 'overlay', options: [], log: silentLog }));
  const images = world.use(
    await createImages({
      store,
      log: silentLog,
      config: { image: { ...defaultConfig().image, namespacedAuthDir: '', signaturePolicyDir: '' } },
      places: {
        registries: { file: '/etc/containers/registries.conf', dropInDirs: [], aliasFile: '/nonexistent' },
        policyFiles: ['/etc/containers/policy.json'],
        authFiles: [],
        certificateDirs: [],
      },
    }),
  );
  const remove = () => images.remove(new Call({ name: 'RemoveImage', id: 't', log: silentLog }), first.name);
  const resize = (bytes: number) => void run('mount', ['-o', `remount,size=${bytes}`, folder]);
  const used = (): number => {
    const { blocks, bfree, bsize } = statfsSync(folder);
    return (blocks - bfree) * bsize;
  };
  assert.equal(await pullError(images), undefined);
  const full = used();
  await remove();
  await assertNoLeftovers(graphRoot);
  const empty = used();
  const refused = new Set<string>();
  let wentThrough = false;
  for (const share of [
    0, 0.4, 0.8, 0.9, 0.94, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 1, 1.005, 1.01, 1.02, 1.03, 1.05, 1.2,
  ]) {
    resize(empty + Math.ceil((share * (full - empty)) / 4096) * 4096);
    const error = await pullError(images);
    resize(64 * 2 ** 20);
    if (error === undefined) {
      wentThrough = true;
      await remove();
    } else {
      refused.add(error.replaceAll(/[a-f0-9]{16,}/g, '...'));
      assert.match(error, /ENOSPC/);
      assert.ok(error.includes(graphRoot), error);
    }
    await assertNoLeftovers(graphRoot);
    assert.deepEqual(await imageFaults(graphRoot), []);
    assert.deepEqual((await store.layers.usage()).imageRoot, { bytes: 0, inodes: 0 }, 'no layer without an image');
  }
  for (const text of refused) t.diagnostic(text);
  assert.ok(refused.size > 1 && wentThrough);
  assert.equal(await pullError(images), undefined);
  assert.deepEqual(await imageFaults(graphRoot), []);
});
