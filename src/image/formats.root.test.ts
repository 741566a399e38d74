import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { busyboxEntries, withParents } from '../../test/fixtures/debian.ts';
import { podmanOn, podmanRunOptions } from '../../test/fixtures/podman.ts';
import { run } from '../../test/fixtures/process.ts';
import { startRegistry } from '../../test/fixtures/registry.ts';
import { writeTar } from '../../test/fixtures/tar.ts';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import type { Store } from '../storage/store.ts';
import { openOverlayStore } from '../storage/testing/open-overlay-store.ts';
import type { ImageService } from './create-images.ts';
import { digestOf } from './digest.ts';
import { mediaTypes } from './media-types.ts';
import { putSchema1, startFakeRegistry } from './testing/fake-registry.ts';
import type { FakeRegistry } from './testing/fake-registry.ts';
import { insecure, openImages, pull } from './testing/open-images.ts';

/** Every way to pack a layer or a manifest: pulled into a real store, then run by podman from it. */
const folder = mkdtempSync(join(tmpdir(), 'formats-'));
/** podman refuses long names here. */
const runRoot = mkdtempSync('/run/formats-');
const podman = podmanOn({ root: join(folder, 'root'), runRoot, driver: 'overlay' });

let registry: FakeRegistry;
let store: Store;
let images: ImageService;

before(async () => {
  registry = await startFakeRegistry();
  store = await openOverlayStore(join(folder, 'root'), runRoot);
  images = await openImages({ store, folder, toml: insecure(registry.host) });
});

after(async () => {
  await images[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
  rmSync(runRoot, { recursive: true });
});

const tar = writeTar(withParents(busyboxEntries('/bin/busybox')));
const program = (name: string, args: readonly string[]) => (input: Buffer) =>
  execFileSync(name, args, { input, maxBuffer: 1 << 28 });
const cut = (data: Buffer, size: number): Buffer[] =>
  Array.from({ length: Math.ceil(data.length / size) }, (_, at) => data.subarray(at * size, (at + 1) * size));
/** A frame that decoders pass over. */
const skippable = (data: Buffer): Buffer => {
  const head = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
  head.writeUInt32LE(data.length, 4);
  return Buffer.concat([head, data]);
};

/**
 * As the estargz specification has it: a gzip member for each piece, one for the table of contents as the last entry,
 * and a footer, an empty member with the table's place in its extra field.
 */
function estargz(data: Buffer): Buffer {
  const end = data.length - 1024;
  const toc = Buffer.from(JSON.stringify({ version: 1, entries: [{ name: 'bin/', type: 'dir', mode: 0o755 }] }));
  const entries = writeTar([
    { type: 'file', path: '.prefetch.landmark', content: Buffer.from([0xf]) },
    { type: 'file', path: 'stargz.index.json', content: toc },
  ]);
  const members = [...cut(data.subarray(0, end), 100_000), entries].map((piece) => gzipSync(piece));
  const offset = members.slice(0, -1).reduce((sum, member) => sum + member.length, 0);
  const extra = Buffer.from(`SG\x16\0${offset.toString(16).padStart(16, '0')}STARGZ`, 'latin1');
  const head = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, extra.length, 0]);
  return Buffer.concat([...members, head, extra, Buffer.from([1, 0, 0, 0xff, 0xff]), Buffer.alloc(8)]);
}

interface Row {
  readonly what: string;
  readonly layerType: string;
  readonly compress: (data: Buffer) => Buffer;
  /** What the layer is when unpacked, when not the archive itself. */
  readonly plain?: (blob: Buffer) => Buffer;
  /** Media type of the config, when not the manifest's own. */
  readonly configType?: string;
}

const oci = 'application/vnd.oci.image.layer.v1.tar';
const docker = 'application/vnd.docker.image.rootfs.diff.tar';
const rows: readonly Row[] = [
  { what: 'plain', layerType: oci, compress: (data) => data },
  { what: 'gzip', layerType: `${oci}+gzip`, compress: (data) => gzipSync(data) },
  {
    what: 'gzip in several members',
    layerType: `${docker}.gzip`,
    compress: (data) => Buffer.concat(cut(data, 300_000).map((piece) => gzipSync(piece))),
  },
  { what: 'gzip that calls itself plain', layerType: oci, compress: (data) => gzipSync(data) },
  { what: 'plain that calls itself gzip', layerType: `${docker}.gzip`, compress: (data) => data },
  {
    what: 'zstd in several frames, with skippable ones',
    layerType: `${oci}+zstd`,
    compress: (data) =>
      Buffer.concat(cut(data, 300_000).flatMap((piece) => [zstdCompressSync(piece), skippable(Buffer.from('toc'))])),
  },
  {
    what: 'estargz',
    layerType: `${oci}+gzip`,
    compress: estargz,
    plain: (blob) => execFileSync('gzip', ['-dc'], { input: blob, maxBuffer: 1 << 28 }),
  },
  { what: 'xz', layerType: `${docker}.gzip`, compress: program('xz', ['-c', '-1']) },
  { what: 'bzip2', layerType: `${docker}.gzip`, compress: program('bzip2', ['-c', '-1']) },
  {
    what: 'a foreign layer that the registry has',
    layerType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    compress: (data) => gzipSync(data),
  },
];

function putImage(tag: string, { layerType, compress, plain = () => tar, configType }: Row): string {
  const blob = compress(tar);
  const isDocker = layerType.includes('docker');
  const config = registry.putBlob(
    Buffer.from(
      JSON.stringify({
        architecture: process.arch === 'x64' ? 'amd64' : process.arch,
        os: 'linux',
        config: { Cmd: ['sh'], Env: ['PATH=/bin', `FORMAT=${tag}`] },
        rootfs: { type: 'layers', diff_ids: [digestOf(plain(blob))] },
      }),
    ),
  );
  const mediaType = isDocker ? mediaTypes.dockerManifest : mediaTypes.ociManifest;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: configType ?? (isDocker ? mediaTypes.dockerConfig : mediaTypes.ociConfig), ...config },
    layers: [{ mediaType: layerType, ...registry.putBlob(blob), urls: ['http://127.0.0.1:1/layer'] }],
  };
  registry.putManifest('formats', tag, manifest, mediaType);
  return `${registry.host}/formats:${tag}`;
}

function runs(name: string): void {
  assert.equal(podman('run', ...podmanRunOptions, name, 'echo', 'hello').trim(), 'hello');
}

describe('layers', () => {
  for (const [index, row] of rows.entries()) {
    it(`in ${row.what} are unpacked, and run by podman`, async () => {
      const name = putImage(`${index}`, row);
      await pull(images, name);
      runs(name);
      await images.remove(new Call({ name: 'remove', id: 't', log: silentLog }), name);
    });
  }

  it('in zstd:chunked, made by podman, are unpacked, and run by podman', async () => {
    const name = putImage('source', { what: '', layerType: oci, compress: (data) => data });
    await pull(images, name);
    mkdirSync(join(folder, 'registry'));
    await using real = await startRegistry({ storage: join(folder, 'registry') });
    const chunked = `${real.address}/made/chunked:1`;
    podman('push', '--quiet', '--tls-verify=false', '--compression-format', 'zstd:chunked', name, chunked);
    podman('rmi', name);
    const raw = run('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${chunked}`]);
    assert.match(raw, /tar\+zstd/);
    assert.match(raw, /zstd-chunked/);
    await using service = await openImages({ store, folder, toml: insecure(registry.host, real.address) });
    await pull(service, chunked);
    runs(chunked);
    podman('rmi', chunked);
  });
});

describe('a Docker manifest', () => {
  const types = [mediaTypes.ociConfig, 'application/octet-stream'];
  for (const [index, configType] of types.entries()) {
    it(`whose config calls itself ${JSON.stringify(configType)} is an image, as for podman`, async () => {
      const layerType = `${docker}.gzip`;
      const name = putImage(`config-${index}`, { what: '', layerType, compress: (data) => gzipSync(data), configType });
      const id = await pull(images, name);
      runs(name);
      podman('rmi', name);
      const flags = ['--root', join(folder, 'root'), '--runroot', runRoot, '--storage-driver', 'overlay'];
      // Not `podmanOn`: the registry is in this process.
      const { stdout } = await promisify(execFile)('podman', [...flags, 'pull', '--quiet', '--tls-verify=false', name]);
      assert.equal(stdout.trim(), id);
      podman('rmi', name);
    });
  }
});

describe('Docker schema 1', () => {
  it('without a signature is converted, and run by podman', async () => {
    putSchema1(registry, 'old', '1', tar);
    const name = `${registry.host}/old:1`;
    await pull(images, name);
    runs(name);
    podman('rmi', '--force', name);
  });
});
