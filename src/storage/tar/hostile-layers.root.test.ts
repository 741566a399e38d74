import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, it } from 'node:test';
import { crc32, gzipSync, zstdCompressSync } from 'node:zlib';
import { messageOf } from '../../base/errors.ts';
import { lgetxattr } from '../../sys/xattr.ts';
import { buildTar, entryBytes, withChecksum } from '../testing/build-tar.ts';
import type { EntrySpec } from '../testing/build-tar.ts';
import { TarReader } from './tar-reader.ts';
import { UniqueNames } from './unique-names.ts';
import { UnpackJob } from './unpack-job.ts';

/** Layers made to harm, one row each: `refused` with this text, or `safe` as the check says. Nothing lands outside. */
interface Row {
  readonly what: string;
  readonly layer: readonly EntrySpec[] | (() => Iterable<Buffer>);
  readonly refused?: RegExp;
  readonly safe?: (root: string) => void;
}

const passwd = { name: 'etc/passwd', data: 'image' };
const archive = buildTar([{ name: 'f', data: Buffer.alloc(100_000, 'x') }]);
const files = (root: string): readonly string[] => readdirSync(root).sort();
const bytes =
  (...parts: Buffer[]) =>
  (): Iterable<Buffer> =>
    parts;

const rows: readonly Row[] = [
  // names
  {
    what: '".." in a name',
    layer: [{ name: '../../../etc/passwd', data: 'x' }],
    safe: (root) => inside(root, 'etc/passwd'),
  },
  { what: 'an absolute name', layer: [{ name: '/etc/passwd', data: 'x' }], safe: (root) => inside(root, 'etc/passwd') },
  {
    what: 'NUL in a PAX name',
    layer: [{ name: 'x', pax: { path: 'etc\0passwd' } }],
    refused: /PAX record "path" holds a NUL/,
  },
  {
    what: 'NUL in a PAX link',
    layer: [{ name: 'x', type: '2', pax: { linkpath: 'a\0' } }],
    refused: /"linkpath" holds a NUL/,
  },
  {
    what: 'a name longer than the system takes',
    layer: [{ name: 'x', pax: { path: `${'a'.repeat(300)}` } }],
    refused: /ENAMETOOLONG/,
  },
  {
    what: 'a path longer than the system takes',
    layer: [{ name: 'x', pax: { path: 'abc/'.repeat(5000) } }],
    refused: /ENAMETOOLONG/,
  },
  { what: 'a name twice', layer: [passwd, { ...passwd, name: './etc//passwd' }], refused: /duplicates of file paths/ },
  // links
  {
    what: 'a symlink, then a write below it',
    layer: [
      { name: 'l', type: '2', linkName: '/' },
      { name: 'l/evil', data: 'x' },
    ],
    safe: (root) => inside(root, 'evil'),
  },
  {
    what: 'a symlink to "..", then a write below it',
    layer: [
      { name: 'l', type: '2', linkName: '../../..' },
      { name: 'l/evil', data: 'x' },
    ],
    safe: (root) => inside(root, 'evil'),
  },
  {
    what: 'a symlink to /proc/self/root, then a write below it',
    layer: [
      { name: 'l', type: '2', linkName: '/proc/self/root' },
      { name: 'l/evil', data: 'x' },
    ],
    refused: /unpack "l\/evil"/,
  },
  {
    what: 'a symlink to itself, then a write below it',
    layer: [
      { name: 'l', type: '2', linkName: 'l' },
      { name: 'l/evil', data: 'x' },
    ],
    refused: /ELOOP|ENOTDIR/,
  },
  {
    what: 'a hard link to the host',
    layer: [{ name: 'h', type: '1', linkName: '/etc/hostname' }],
    refused: /unpack "h"/,
  },
  {
    what: 'a hard link with ".."',
    layer: [{ name: 'h', type: '1', linkName: '../../../../etc/hostname' }],
    refused: /unpack "h"/,
  },
  {
    what: 'a hard link to a symlink',
    layer: [
      { name: 'l', type: '2', linkName: '/etc/hostname' },
      { name: 'h', type: '1', linkName: 'l', mode: 0o777, uid: 7 },
    ],
    safe: (root) => assert.equal(readlinkSync(`${root}/h`), '/etc/hostname'),
  },
  {
    what: 'a hard link through a symlink out of the layer',
    layer: [
      { name: 'l', type: '2', linkName: '/etc' },
      { name: 'h', type: '1', linkName: 'l/hostname' },
    ],
    refused: /unpack "h"/,
  },
  {
    what: 'a hard link to the root',
    layer: [{ name: 'h', type: '1', linkName: '/' }],
    refused: /hard link to the root/,
  },
  { what: 'a symlink without a target', layer: [{ name: 'l', type: '2' }], refused: /symlink without a target/ },
  // devices and modes
  {
    what: 'a device of the host',
    layer: [{ name: 'sda', type: '4', device: [8, 0], mode: 0o666 }],
    safe: (root) => assert.equal(lstatSync(`${root}/sda`).isBlockDevice(), true),
  },
  {
    what: 'set-user-ID on everything',
    layer: [
      { name: 'd/', type: '5', mode: 0o7777 },
      { name: 'd/f', mode: 0o7777, uid: 0 },
    ],
    safe: (root) => assert.equal(lstatSync(`${root}/d/f`).mode & 0o7777, 0o7777),
  },
  {
    what: 'file type bits in the mode',
    layer: [{ name: 'f', mode: 0o140777, data: 'x' }],
    safe: (root) => assert.equal(lstatSync(`${root}/f`).isFile(), true),
  },
  {
    what: 'an owner that means "none" to the kernel',
    layer: [{ name: 'f', uid: 0xffffffff }],
    refused: /id 4294967295 is out of range/,
  },
  { what: 'a negative owner', layer: [{ name: 'f', gid: -2 }], refused: /id -2 is out of range/ },
  {
    what: "overlay's own marks as attributes",
    layer: [
      {
        name: 'd/',
        type: '5',
        pax: { 'SCHILY.xattr.trusted.overlay.redirect': '/etc', 'SCHILY.xattr.trusted.overlay.opaque': 'y' },
      },
    ],
    safe: (root) =>
      assert.equal(
        lgetxattr(`${root}/d`, 'trusted.overlay.redirect') ?? lgetxattr(`${root}/d`, 'trusted.overlay.opaque'),
        undefined,
      ),
  },
  {
    what: 'an attribute that the kernel refuses',
    layer: [{ name: 'f', pax: { 'SCHILY.xattr.nonsense': 'x' } }],
    safe: (root) => inside(root, 'f'),
  },
  // whiteouts
  { what: 'a whiteout of ".."', layer: [{ name: 'a/.wh...' }], refused: /whiteout without a name/ },
  { what: 'a whiteout without a name', layer: [{ name: '.wh.' }], refused: /whiteout without a name/ },
  {
    what: 'a whiteout above the root',
    layer: [{ name: '../../.wh.etc' }],
    safe: (root) => assert.deepEqual(files(root), ['etc']),
  },
  {
    what: 'an opaque folder on a symlink out of the layer',
    layer: [{ name: 'l', type: '2', linkName: '/../..' }, { name: 'l/.wh..wh..opq' }],
    safe: (root) => assert.deepEqual(files(root), ['l']),
  },
  // sizes
  {
    what: 'CVE-2025-58183: a GNU sparse file',
    layer: [{ name: 'f', type: 'S', size: 512 }],
    refused: /unhandled tar header type "S"/,
  },
  {
    what: 'CVE-2025-58183: a PAX sparse map',
    layer: [{ name: 'f', pax: { 'GNU.sparse.map': '0,1,'.repeat(100_000), 'GNU.sparse.size': '1099511627776' } }],
    refused: /sparse file/,
  },
  {
    what: 'a PAX header of 2 MiB',
    layer: [{ name: 'f', pax: { comment: 'x'.repeat(2 << 20) } }],
    refused: /extended header of \d+ bytes/,
  },
  {
    what: 'a PAX header with a million records',
    layer: [{ name: 'x', type: 'x', data: '6 a=b\n'.repeat(170_000) }, { name: 'f' }],
    safe: (root) => inside(root, 'f'),
  },
  {
    what: 'a PAX size larger than the content',
    layer: [{ name: 'f', data: 'x', pax: { size: '1000000000000' } }],
    refused: /unexpected end of archive/,
  },
  {
    what: 'a PAX size smaller than the content',
    layer: [{ name: 'f', data: 'x'.repeat(2000), pax: { size: '1' } }],
    refused: /checksum|no number/,
  },
  { what: 'a negative PAX size', layer: [{ name: 'f', pax: { size: '-1' } }], refused: /entry of -1 bytes/ },
  {
    what: 'a PAX size that is no number',
    layer: [{ name: 'f', pax: { size: '1e3' } }],
    refused: /"size" is no number/,
  },
  { what: 'a size of 2^63 in the header', layer: () => [hugeHeader()], refused: /out of range|no number/ },
  {
    what: 'content behind a folder',
    layer: [{ name: 'd/', type: '5', size: 1 << 30 }],
    safe: (root) => inside(root, 'd'),
  },
  // streams
  {
    what: 'an archive cut inside a header',
    layer: bytes(archive.subarray(0, 300)),
    refused: /unexpected end of archive/,
  },
  {
    what: 'an archive cut inside a file',
    layer: bytes(archive.subarray(0, 50_000)),
    refused: /unexpected end of archive/,
  },
  {
    what: 'a gzip stream cut inside',
    layer: bytes(gzipSync(archive).subarray(0, 100)),
    refused: /unexpected end of file/,
  },
  {
    what: 'a zstd frame cut inside',
    layer: bytes(zstdCompressSync(archive).subarray(0, 20)),
    refused: /unexpected end of|srcSize|Src size/i,
  },
  {
    what: 'two archives one after another',
    layer: bytes(archive, buildTar([{ name: 'second' }])),
    safe: (root) => assert.deepEqual(files(root), ['f']),
  },
  {
    what: 'gzip with zeros after its end',
    layer: bytes(gzipSync(archive), Buffer.alloc(1000)),
    safe: (root) => assert.deepEqual(files(root), ['f']),
  },
  {
    what: 'gzip members one after another',
    layer: bytes(gzipSync(archive.subarray(0, 700)), gzipSync(archive.subarray(700))),
    safe: (root) => assert.equal(statSync(`${root}/f`).size, 100_000),
  },
  {
    what: 'zstd frames with skippable ones between',
    layer: bytes(
      skippable(),
      zstdCompressSync(archive.subarray(0, 700)),
      skippable(),
      zstdCompressSync(archive.subarray(700)),
      skippable(),
    ),
    safe: (root) => assert.equal(statSync(`${root}/f`).size, 100_000),
  },
  {
    what: 'a zstd frame that wants a window of 2 GiB',
    layer: bytes(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0])),
    refused: /decompress zstd: Frame requires too much memory/,
  },
  {
    what: 'xz that wants a dictionary of 1.5 GiB',
    layer: bytes(hungryXz()),
    refused: /decompress xz: it needs more than 268435456 bytes of memory/,
  },
  {
    what: 'gzip in gzip',
    layer: bytes(gzipSync(gzipSync(archive))),
    refused: /unexpected end of archive|checksum|no number/,
  },
  { what: 'bzip2 magic and nothing behind it', layer: bytes(Buffer.from('BZh91AY&SY garbage')), refused: /bzip2/ },
  {
    what: 'bad xz',
    layer: bytes(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2, 3, 4, 5, 6, 7, 8])),
    refused: /xz/,
  },
  {
    what: 'an archive of nothing but zeros',
    layer: bytes(Buffer.alloc(1 << 20)),
    safe: (root) => assert.deepEqual(files(root), []),
  },
  {
    what: 'no archive at all',
    layer: bytes(Buffer.from('<html>Forbidden</html>'.repeat(100))),
    refused: /checksum|no number/,
  },
  { what: '20,000 owners', layer: manyOwners, refused: /more than 16384 different owners/ },
];

function inside(root: string, path: string): void {
  assert.ok(lstatSync(`${root}/${path}`).isFile() || lstatSync(`${root}/${path}`).isDirectory());
}

function skippable(): Buffer {
  return Buffer.from([0x51, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
}

/** `xz` made it; the properties of its dictionary are changed, with their checksum. */
function hungryXz(): Buffer {
  const file = execFileSync('xz', ['--format=xz', '-c'], { input: archive });
  // After the header of the stream, 12 bytes: the size of the block's header, flags, LZMA2 (0x21), 1 byte of properties.
  const size = ((file[12] ?? 0) + 1) * 4;
  assert.deepEqual([...file.subarray(14, 16)], [0x21, 1]);
  file[16] = 39;
  file.writeUInt32LE(crc32(file.subarray(12, 12 + size - 4)), 12 + size - 4);
  return file;
}

function hugeHeader(): Buffer {
  const block = entryBytes({ name: 'f' });
  block.fill(0xff, 124, 136);
  block[124] = 0x80;
  return withChecksum(block);
}

function* manyOwners(): Iterable<Buffer> {
  for (let uid = 0; uid < 20_000; uid += 1) yield entryBytes({ name: `d${uid}/`, type: '5', uid });
}

async function unpack(root: string, tarSplit: string, layer: Row['layer']): Promise<void> {
  using job = new UnpackJob({ diffFolder: root, tarSplit, whiteouts: 'overlay', warn: () => undefined });
  for (const chunk of typeof layer === 'function' ? layer() : [buildTar(layer)]) job.push(chunk);
  job.end();
}

describe('hostile layers', () => {
  for (const { what, layer, refused, safe } of rows) {
    it(what, { timeout: 30_000 }, async () => {
      const base = mkdtempSync(`${tmpdir()}/hostile-`);
      const root = `${base}/outer/root`;
      mkdirSync(root, { recursive: true });
      const host = statSync('/etc/passwd', { bigint: true });
      try {
        if (refused === undefined) await unpack(root, `${base}/split`, layer);
        else assert.match(await failure(unpack(root, `${base}/split`, layer)), refused);
        safe?.(root);
        assert.deepEqual([readdirSync(base).sort(), readdirSync(`${base}/outer`)], [['outer', 'split'], ['root']]);
        const after = statSync('/etc/passwd', { bigint: true });
        assert.deepEqual([after.ino, after.mode, after.ctimeNs], [host.ino, host.mode, host.ctimeNs]);
      } finally {
        rmSync(base, { recursive: true });
      }
    });
  }
});

async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return messageOf(error);
  }
  assert.fail('it was unpacked');
}

describe('bombs', () => {
  /** 64 GiB of zeros in a file, in a few megabytes. */
  function* bomb(compress: (data: Buffer) => Buffer): Iterable<Buffer> {
    yield compress(entryBytes({ name: 'zeros', size: 64 * 1024 ** 3 }));
    const part = compress(Buffer.alloc(16 << 20));
    for (let at = 0; at < 4096; at++) yield part;
  }

  for (const [name, compress] of [
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
  ] as const) {
    it(`of ${name} ends before the file system is full, in bounded memory`, { timeout: 60_000 }, async () => {
      const base = mkdtempSync(`${tmpdir()}/bomb-`);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=400m', 'tmpfs', base]);
      try {
        mkdirSync(`${base}/root`);
        const before = process.memoryUsage().rss;
        const text = await failure(unpack(`${base}/root`, `${base}/split`, () => bomb(compress)));
        assert.match(text, /stop unpacking after 3[78]\d MiB: ENOSPC is near, less than 20 MiB of 400 MiB are free/);
        assert.ok(process.memoryUsage().rss - before < 200e6, `${process.memoryUsage().rss - before} bytes more`);
      } finally {
        execFileSync('umount', [base]);
        rmSync(base, { recursive: true });
      }
    });
  }

  for (const [what, layer] of [
    ['zeros behind the archive', zerosBehind],
    ['long headers', longHeaders],
  ] as const) {
    it(`of ${what} ends at the limit, though little is written`, { timeout: 120_000 }, async () => {
      const base = mkdtempSync(`${tmpdir()}/bomb-`);
      try {
        mkdirSync(`${base}/root`);
        const text = await failure(unpack(`${base}/root`, `${base}/split`, layer));
        assert.match(text, /10\d{8} bytes of headers and padding, for \d{1,4} entries/);
      } finally {
        rmSync(base, { recursive: true });
      }
    });
  }

  it('of ten million entries ends at the limit, in bounded memory', { timeout: 120_000 }, () => {
    const names = new UniqueNames();
    let count = 0;
    const reader = new TarReader({
      raw: () => undefined,
      entry: (entry) => {
        names.add(entry);
        count += 1;
      },
      data: () => undefined,
      entryEnd: () => undefined,
    });
    const before = process.memoryUsage().rss;
    const headers = numberedHeaders();
    assert.throws(() => {
      for (let at = 0; at < 10_000_000; at += headers.perChunk) reader.push(headers.from(at));
    }, /more than 4000000 entries/);
    assert.equal(count, 4_000_000);
    assert.ok(process.memoryUsage().rss - before < 400e6, `${process.memoryUsage().rss - before} bytes more`);
  });
});

function* zerosBehind(): Iterable<Buffer> {
  yield zstdCompressSync(archive);
  const zeros = zstdCompressSync(Buffer.alloc(16 << 20));
  for (let at = 0; at < 4096; at++) yield zeros;
}

/** Empty files, each after a header of a megabyte. */
function* longHeaders(): Iterable<Buffer> {
  const first = buildTar([{ name: 'f', pax: { comment: 'x'.repeat(1_000_000) } }], { end: false });
  const header = zstdCompressSync(first.subarray(0, -512));
  for (let at = 0; at < 65_536; at++) {
    yield header;
    yield zstdCompressSync(entryBytes({ name: `${at}` }));
  }
}

/** Headers of empty files called by their numbers, 4096 in one reused buffer. */
function numberedHeaders(): { readonly perChunk: number; from(first: number): Buffer } {
  const perChunk = 4096;
  const template = entryBytes({ name: 'f00000000' });
  const sum = Number.parseInt(template.toString('latin1', 148, 154), 8);
  const chunk = Buffer.concat(Array.from({ length: perChunk }, () => template));
  return {
    perChunk,
    from(first) {
      for (let index = 0; index < perChunk; index++) {
        let rest = first + index;
        let digits = 0;
        for (let at = 8; at > 0; at--) {
          chunk[index * 512 + at] = 0x30 + (rest % 10);
          digits += rest % 10;
          rest = Math.floor(rest / 10);
        }
        chunk.write((sum + digits).toString(8).padStart(6, '0'), index * 512 + 148, 'latin1');
      }
      return chunk;
    },
  };
}

describe('a layer of 20,000 folders', () => {
  it('gets the times of all of them', { timeout: 60_000 }, async () => {
    const base = mkdtempSync(`${tmpdir()}/folders-`);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=400m', 'tmpfs', base]);
    try {
      mkdirSync(`${base}/root`);
      function* folders(): Iterable<Buffer> {
        for (let at = 0; at < 20_000; at++) yield entryBytes({ name: `d${at % 100}/e${at}/`, type: '5' });
      }
      await unpack(`${base}/root`, `${base}/split`, folders);
      assert.equal(statSync(`${base}/root/d1/e1`).mtimeMs, 1_700_000_000_000);
      assert.ok(readFileSync(`${base}/split`).length > 0);
    } finally {
      execFileSync('umount', [base]);
      rmSync(base, { recursive: true });
    }
  });
});
