import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { run } from '../../test/fixtures/process.ts';
import { Call } from '../base/call.ts';
import { messageOf } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { defaultConfig } from '../config/config.ts';
import { openStore } from '../storage/open-store.ts';
import { buildTar, entryBytes } from '../storage/testing/build-tar.ts';
import { createImages } from './create-images.ts';
import { mediaTypes } from './media-types.ts';
import { putImage, startFakeRegistry } from './testing/fake-registry.ts';

/** 640 MiB of zeros as a file, in less than a megabyte. */
function bomb(compress: (data: Buffer) => Buffer): Buffer {
  const zeros = compress(Buffer.alloc(16 << 20));
  return Buffer.concat([
    compress(entryBytes({ name: 'zeros', size: 640 << 20 })),
    ...Array.from({ length: 40 }, () => zeros),
  ]);
}

describe('a layer that would fill the disk', () => {
  for (const [name, compress] of [
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
  ] as const) {
    it(`in ${name} ends with the disk as it was, and the next image is pulled`, { timeout: 60_000 }, async () => {
      const base = mkdtempSync(join(tmpdir(), 'bombs-'));
      run('mount', ['-t', 'tmpfs', '-o', 'size=400m', 'tmpfs', base]);
      await using undo = new AsyncDisposableStack();
      undo.defer(() => {
        run('umount', ['--lazy', base]);
        rmSync(base, { recursive: true });
      });
      const registry = undo.use(await startFakeRegistry());
      const blob = registry.putBlob(bomb(compress));
      const { manifest } = putImage(registry, 'a', 'bomb', { layers: [buildTar([{ name: 'f', data: 'x' }])] });
      const layers = [{ mediaType: `application/vnd.oci.image.layer.v1.tar+${name}`, ...blob }];
      registry.putManifest('a', 'bomb', { ...manifest, layers }, mediaTypes.ociManifest);
      putImage(registry, 'a', 'good', { layers: [buildTar([{ name: 'f', data: 'x' }])] });
      writeFileSync(join(base, 'registries.conf'), `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`);
      writeFileSync(join(base, 'policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
      mkdirSync(join(base, 'run'));
      const store = undo.use(
        await openStore({
          graphRoot: join(base, 'root'),
          runRoot: join(base, 'run'),
          imageStore: '',
          driver: 'overlay',
          options: ['overlay.skip_mount_home=true'],
          log: silentLog,
        }),
      );
      const images = undo.use(
        await createImages({
          store,
          log: silentLog,
          config: { image: { ...defaultConfig().image, namespacedAuthDir: '', signaturePolicyDir: '' } },
          places: {
            registries: { file: join(base, 'registries.conf'), dropInDirs: [], aliasFile: '/nonexistent' },
            policyFiles: [join(base, 'policy.json')],
            authFiles: [],
            certificateDirs: [],
          },
        }),
      );
      const pull = async (tag: string): Promise<string> => {
        const call = new Call({ name: 'PullImage', id: 't', log: silentLog });
        const request = {
          reference: `${registry.host}/a:${tag}`,
          namespace: '',
          cgroupParent: '',
          credentials: undefined,
        };
        return images.pull(call, request).then(({ id }) => id, messageOf);
      };
      const before = statfsSync(base).bavail;
      assert.match(
        await pull('bomb'),
        /stop unpacking after \d+ MiB: ENOSPC is near, less than 20 MiB of 400 MiB are free/,
      );
      assert.ok((before - statfsSync(base).bavail) * statfsSync(base).bsize < 1 << 20, 'what it wrote is taken back');
      assert.deepEqual(
        readdirSync(join(base, 'root/overlay')).filter((entry) => entry.length === 64),
        [],
      );
      assert.match(await pull('good'), /^[0-9a-f]{64}$/);
    });
  }
});
