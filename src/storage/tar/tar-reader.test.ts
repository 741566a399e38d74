import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildTar, entryBytes, paxData, withChecksum } from '../testing/build-tar.ts';
import type { EntrySpec } from '../testing/build-tar.ts';
import { TarError } from './tar-header.ts';
import { TarReader } from './tar-reader.ts';
import type { TarEntry } from './tar-reader.ts';

interface Read {
  readonly entries: readonly TarEntry[];
  readonly contents: readonly string[];
  /** Everything in the order of the stream, to be put together again. */
  readonly stream: Buffer;
}

function read(archive: Buffer, cuts: readonly number[] = []): Read {
  const entries: TarEntry[] = [];
  const contents: string[] = [];
  const stream: Buffer[] = [];
  let content: Buffer[] = [];
  const reader = new TarReader({
    raw: (bytes) => stream.push(Buffer.from(bytes)),
    entry: (entry) => {
      entries.push(entry);
      content = [];
    },
    data: (bytes) => {
      content.push(Buffer.from(bytes));
      stream.push(Buffer.from(bytes));
    },
    entryEnd: () => contents.push(Buffer.concat(content).toString('latin1')),
  });
  let at = 0;
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    reader.push(archive.subarray(at, cut));
    at = Math.max(at, cut);
  }
  reader.push(archive.subarray(at));
  reader.end();
  return { entries, contents, stream: Buffer.concat(stream) };
}

const names = (archive: Buffer) => read(archive).entries.map((entry) => entry.name.toString());

test('TarReader reads files, folders, links and devices', () => {
  const { entries, contents } = read(
    buildTar([
      { name: 'd/', type: '5', mode: 0o1755 },
      { name: 'd/f', data: 'hello', uid: 5, gid: 6, mode: 0o4755 },
      { name: 'l', type: '2', linkName: 'd/f' },
      { name: 'h', type: '1', linkName: 'd/f', size: 5 },
      { name: 'c', type: '3', device: [1, 3] },
    ]),
  );
  assert.deepEqual(
    entries.map((entry) => [entry.type, entry.name.toString(), entry.linkName.toString(), entry.payload]),
    [
      ['directory', 'd/', '', 0],
      ['file', 'd/f', '', 5],
      ['symlink', 'l', 'd/f', 0],
      ['link', 'h', 'd/f', 0],
      ['char', 'c', '', 0],
    ],
  );
  assert.deepEqual(contents, ['', 'hello', '', '', '']);
  assert.equal(entries[0]?.mode, 0o1755);
  assert.deepEqual([entries[1]?.uid, entries[1]?.gid, entries[1]?.mode], [5, 6, 0o4755]);
  assert.deepEqual([entries[4]?.deviceMajor, entries[4]?.deviceMinor], [1, 3]);
});

test('TarReader takes values of PAX records over those of the header', () => {
  const { entries } = read(
    buildTar([
      {
        name: 'short',
        data: 'x',
        pax: {
          path: 'a/long/näme',
          uid: '3000000',
          mtime: '1700000000.123456789',
          'SCHILY.xattr.user.a': Buffer.from([0, 255]),
        },
      },
      { name: 'next', mtime: -5 },
    ]),
  );
  assert.equal(entries[0]?.name.toString(), 'a/long/näme');
  assert.equal(entries[0]?.uid, 3_000_000);
  assert.equal(entries[0]?.mtimeNs, 1_700_000_000_123_456_789n);
  assert.deepEqual(entries[0]?.xattrs.get('user.a'), Buffer.from([0, 255]));
  assert.equal(entries[1]?.name.toString(), 'next');
  assert.equal(entries[1]?.mtimeNs, -5_000_000_000n);
  assert.equal(entries[1]?.xattrs.size, 0);
});

test('TarReader takes long names of GNU tar', () => {
  const long = `${'x'.repeat(150)}/y`;
  const archive = buildTar([
    { name: '././@LongLink', type: 'L', data: `${long}\0` },
    { name: '././@LongLink', type: 'K', data: 'target\0' },
    { name: 'cut', type: '2', linkName: 'cut' },
  ]);
  const { entries } = read(archive);
  assert.equal(entries[0]?.name.toString(), long);
  assert.equal(entries[0]?.linkName.toString(), 'target');
});

test('TarReader joins prefix and name of ustar, and not of GNU headers', () => {
  const block = entryBytes({ name: 'name' });
  block.write('pre/fix', 345);
  withChecksum(block);
  assert.deepEqual(names(buildTar([])), []);
  assert.deepEqual(names(block), ['pre/fix/name']);
  block.write('ustar  \0', 257, 'latin1');
  withChecksum(block);
  assert.deepEqual(names(block), ['name']);
});

test('TarReader gives a global header as an entry without content', () => {
  const archive = buildTar([
    { name: 'pax_global_header', type: 'g', data: paxData({ comment: 'x' }) },
    { name: 'f', data: '1' },
  ]);
  const { entries, contents } = read(archive);
  assert.deepEqual(
    entries.map((entry) => [entry.type, entry.name.toString(), entry.payload]),
    [
      ['global', 'pax_global_header', 0],
      ['file', 'f', 1],
    ],
  );
  assert.deepEqual(contents, ['', '1']);
});

test('TarReader accepts missing end blocks, more padding and garbage after the end', () => {
  const entry: EntrySpec = { name: 'f', data: 'x' };
  assert.deepEqual(names(buildTar([entry], { end: false })), ['f']);
  assert.deepEqual(names(Buffer.concat([buildTar([entry]), Buffer.alloc(9000), Buffer.from('garbage')])), ['f']);
  assert.deepEqual(names(Buffer.alloc(1024)), []);
  assert.deepEqual(names(Buffer.alloc(0)), []);
  assert.deepEqual(names(Buffer.concat([buildTar([entry], { end: false }), Buffer.alloc(512)])), ['f']);
});

test('TarReader refuses damaged archives', () => {
  const whole = buildTar([{ name: 'f', data: 'x'.repeat(600) }]);
  assert.throws(() => read(whole.subarray(0, 700)), TarError, 'cut in a file');
  assert.throws(() => read(whole.subarray(0, 300)), TarError, 'cut in a header');
  const broken = Buffer.from(whole);
  broken[5] = 0x41;
  assert.throws(() => read(broken), /checksum/);
  assert.throws(() => read(Buffer.concat([Buffer.alloc(512), whole])), /after an end block/);
  assert.throws(() => read(entryBytes({ name: 'x', type: 'x', data: 'garbage' })), /PAX/);
  assert.throws(() => read(entryBytes({ name: 'x', type: 'x', size: 2 << 20 })), /extended header/);
  assert.throws(() => read(entryBytes({ name: 'x', size: -1 })), TarError);
  assert.throws(() => read(buildTar([{ name: 'x', pax: { path: 'a\0b' } }])), /NUL/);
  assert.throws(() => read(buildTar([{ name: 'x', pax: { 'GNU.sparse.major': '1' } }])), /sparse/);
  assert.throws(() => read(buildTar([{ name: 'x', pax: { size: '99999999999999999999' } }])), TarError);
});

test('CVE-2025-58183: TarReader refuses sparse files before it reads their maps', () => {
  const bomb = Array.from({ length: 100_000 }, (_, index) => `${index},1`).join(',');
  assert.throws(
    () => read(buildTar([{ name: 'x', pax: { 'GNU.sparse.major': '0', 'GNU.sparse.map': bomb } }])),
    /sparse/,
  );
  const version1 = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '1' };
  assert.throws(() => read(buildTar([{ name: 'x', pax: version1, data: '99999999999\n' }])), /sparse/);
});

const entrySpec: fc.Arbitrary<EntrySpec> = fc.record(
  {
    name: fc.stringMatching(/^[a-z]{1,8}(\/[a-zäö]{1,8}){0,3}$/),
    type: fc.constantFrom('0', '5', '2', '1'),
    data: fc.uint8Array({ maxLength: 1500 }).map((bytes) => Buffer.from(bytes)),
    uid: fc.nat(5_000_000),
    mtime: fc.integer(),
    pax: fc.dictionary(fc.stringMatching(/^SCHILY\.xattr\.user\.[a-z]{1,5}$/), fc.string(), {
      maxKeys: 2,
      noNullPrototype: true,
    }),
  },
  { requiredKeys: ['name'] },
);
const archive = fc
  .array(entrySpec, { maxLength: 6 })
  .map((entries) =>
    buildTar(entries.map((entry) => (entry.type === undefined || entry.type === '0' ? entry : { ...entry, data: '' }))),
  );

test('TarReader finds the same whatever pieces the archive comes in, and gives every byte once', () => {
  fc.assert(
    fc.property(archive, fc.array(fc.nat(8000), { maxLength: 10 }), (bytes, cuts) => {
      const whole = read(bytes);
      const pieces = read(
        bytes,
        cuts.filter((cut) => cut <= bytes.length),
      );
      assert.deepEqual(pieces, whole);
      assert.deepEqual(whole.stream, bytes);
    }),
  );
});

test('TarReader throws nothing but TarError for any damage', () => {
  fc.assert(
    fc.property(
      archive,
      fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { minLength: 1, maxLength: 5 }),
      (bytes, changes) => {
        const damaged = Buffer.from(bytes);
        for (const [at, value] of changes) if (at < damaged.length) damaged[at] = value;
        try {
          read(damaged);
        } catch (error) {
          assert.ok(error instanceof TarError, String(error));
        }
      },
    ),
  );
});
