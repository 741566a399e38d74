import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
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
import { digestOf } from './digest.ts';
import { mediaTypes } from './media-types.ts';
import { putArtifact, putImage, startFakeRegistry } from './testing/fake-registry.ts';
import type { FakeRegistry } from './testing/fake-registry.ts';

/** 640 MiB of zeros as a file, in less than a megabyte. */
function bomb(compress: (data: Buffer) => Buffer): Buffer {
  const zeros = compress(Buffer.alloc(16 << 20));
  return Buffer.concat([
    compress(entryBytes({ name: 'zeros', size: 640 << 20 })),
    ...Array.from({ length: 40 }, () => zeros),
  ]);
}

/** Of 20,000 inodes of the disk a layer that wants 30,000. */
function manyFiles(): Buffer {
  return gzipSync(buildTar(Array.from({ length: 30_000 }, (_, at) => ({ name: `d${at % 10}/${at}`, data: '' }))));
}

/** A thousand entries that want a hundred folders each. */
function deepFolders(): Buffer {
  const below = 'd/'.repeat(99);
  return gzipSync(buildTar(Array.from({ length: 1000 }, (_, at) => ({ name: 'f', pax: { path: `${at}/${below}f` } }))));
}

/** A byte each: of 100 MiB, in blocks of 4 KiB, some 25,000 fit. */
function smallFiles(): Buffer {
  return gzipSync(buildTar(Array.from({ length: 30_000 }, (_, at) => ({ name: `d${at % 10}/${at}`, data: 'x' }))));
}

/** Bytes behind the end of the archive that do not get smaller in the record of what is no content. */
function randomBehind(): Buffer {
  return Buffer.concat([buildTar([{ name: 'f', data: 'x' }]), randomBytes(48 << 20)]);
}

const freeBytes = /stop unpacking after \d+ MiB: ENOSPC is near, less than 20 MiB of 400 MiB are free/;
const freeBlocks = /stop unpacking after 2\d{4} files: ENOSPC is near, less than 5 MiB of 100 MiB are free/;
const freeOfSmall = /stop unpacking after \d+ MiB: ENOSPC is near, less than 2 MiB of 40 MiB are free/;
const freeInodes = /stop unpacking after 1[89]\d{3} files: ENOSPC is near, fewer than 1000 of 20000 inodes are free/;

interface World {
  readonly base: string;
  readonly registry: FakeRegistry;
  /** The id, or the text of the refusal. */
  pull(name: string): Promise<string>;
}

/** A store on a tmpfs. */
async function openWorld(undo: AsyncDisposableStack, mountOptions: string): Promise<World> {
  const base = mkdtempSync(join(tmpdir(), 'bombs-'));
  run('mount', ['-t', 'tmpfs', '-o', mountOptions, 'tmpfs', base]);
  undo.defer(() => {
    run('umount', ['--lazy', base]);
    rmSync(base, { recursive: true });
  });
  const registry = undo.use(await startFakeRegistry());
  writeFileSync(join(base, 'registries.conf'), `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`);
  writeFileSync(join(base, 'policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
  mkdirSync(join(base, 'run'));
  const roots = { graphRoot: join(base, 'root'), runRoot: join(base, 'run'), imageStore: '' };
  const storeOptions = ['overlay.skip_mount_home=true'];
  const store = undo.use(await openStore({ ...roots, driver: 'overlay', options: storeOptions, log: silentLog }));
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
  const pull = async (name: string): Promise<string> => {
    const call = new Call({ name: 'PullImage', id: 't', log: silentLog });
    const request = { namespace: '', cgroupParent: '', credentials: undefined };
    return images.pull(call, { ...request, reference: `${registry.host}/${name}` }).then(({ id }) => id, messageOf);
  };
  return { base, registry, pull };
}

describe('a layer that would fill the disk', () => {
  for (const [name, compression, layer, refusal, disk = 'size=400m,nr_inodes=20000'] of [
    ['of zeros in gzip', 'gzip', () => bomb(gzipSync), freeBytes],
    ['of zeros in zstd', 'zstd', () => bomb(zstdCompressSync), freeBytes],
    ['of empty files', 'gzip', manyFiles, freeInodes],
    ['of folders that only the names of files tell of', 'gzip', deepFolders, freeInodes],
    ['of random bytes behind the archive', 'gzip', randomBehind, freeOfSmall, 'size=40m'],
    ['of small files', 'gzip', smallFiles, freeBlocks, 'size=100m,nr_inodes=100000'],
  ] as const) {
    it(`${name} ends with the disk as it was, and the next image is pulled`, { timeout: 60_000 }, async () => {
      await using undo = new AsyncDisposableStack();
      const { base, registry, pull } = await openWorld(undo, disk);
      const blob = registry.putBlob(layer());
      const { manifest } = putImage(registry, 'a', 'bomb', { layers: [buildTar([{ name: 'f', data: 'x' }])] });
      const layers = [{ mediaType: `application/vnd.oci.image.layer.v1.tar+${compression}`, ...blob }];
      registry.putManifest('a', 'bomb', { ...manifest, layers }, mediaTypes.ociManifest);
      putImage(registry, 'a', 'good', { layers: [buildTar([{ name: 'f', data: 'x' }])] });
      const before = statfsSync(base);
      assert.match(await pull('a:bomb'), refusal);
      const after = statfsSync(base);
      assert.ok((before.bavail - after.bavail) * after.bsize < 1 << 20, 'what it wrote is taken back');
      assert.ok(before.ffree - after.ffree < 100);
      assert.deepEqual(
        readdirSync(join(base, 'root/overlay')).filter((entry) => entry.length === 64),
        [],
      );
      assert.match(await pull('a:good'), /^[0-9a-f]{64}$/);
    });
  }
});

describe('an artifact whose last blob', () => {
  for (const [what, bytes, besideBytes, refusal] of [
    [
      'takes what the disk must keep',
      // By itself more than may be taken, whatever is written beside it.
      97 << 20,
      1 << 20,
      /stop writing after \d+ MiB: ENOSPC is near, less than 5 MiB of 100 MiB/,
    ],
    ['finds the disk full', 60 << 20, 10 << 20, /ENOSPC/],
  ] as const) {
    it(`${what} leaves nothing of itself`, async () => {
      await using undo = new AsyncDisposableStack();
      const { base, registry, pull } = await openWorld(undo, 'size=100m');
      const last = 'x'.repeat(bytes);
      putArtifact(registry, 'files', '1', { small: 'A', large: 'y'.repeat(besideBytes), last });
      const filler = join(base, 'filler');
      registry.handle = (request) => {
        // Enough is left for the other blobs.
        if (request.url?.endsWith(digestOf(Buffer.from(last))) === true && bytes < 64 << 20)
          writeFileSync(filler, Buffer.alloc(statfsSync(base).bavail * 4096 - (12 << 20)));
        return false;
      };
      assert.match(await pull('files:1'), refusal);
      assert.deepEqual(readdirSync(join(base, 'root/artifacts/blobs/sha256')), []);
      rmSync(filler, { force: true });
      registry.handle = () => false;
      putArtifact(registry, 'files', '2', { small: 'A' });
      assert.match(await pull('files:2'), /^[0-9a-f]{64}$/);
    });
  }
});
