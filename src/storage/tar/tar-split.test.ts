import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildTar } from '../testing/build-tar.ts';
import { TarReader } from './tar-reader.ts';
import { TarSplitWriter } from './tar-split.ts';

interface Line {
  readonly type: number;
  readonly name?: string;
  readonly name_raw?: string;
  readonly size?: number;
  readonly payload: string | null;
  readonly position: number;
}

/** Lines of the description, and each file's content in order. */
function describe(archive: Buffer): { lines: Line[]; files: Buffer[] } {
  const lines: Line[] = [];
  const files: Buffer[] = [];
  const split = new TarSplitWriter((line) => lines.push(JSON.parse(line)));
  let parts: Buffer[] = [];
  const reader = new TarReader({
    raw: (bytes) => split.raw(bytes),
    entry: (entry) => {
      split.startFile(entry.name, entry.payload);
      parts = [];
    },
    data: (bytes) => {
      split.data(bytes);
      parts.push(Buffer.from(bytes));
    },
    entryEnd: () => {
      split.endFile();
      files.push(Buffer.concat(parts));
    },
  });
  reader.push(archive);
  reader.end();
  split.end();
  return { lines, files };
}

test('TarSplitWriter describes an archive so that it can be put together again', () => {
  const archive = Buffer.concat([
    buildTar([
      { name: 'd/', type: '5' },
      { name: 'a', data: 'hello', pax: { 'SCHILY.xattr.user.x': '1' } },
      { name: Buffer.from([0x66, 0xff]), data: 'raw' },
      { name: 'empty' },
    ]),
    Buffer.alloc(3 << 20, 7),
  ]);
  const { lines, files } = describe(archive);
  const parts: Buffer[] = [];
  let file = 0;
  for (const line of lines)
    parts.push(line.type === 2 ? Buffer.from(line.payload ?? '', 'base64') : (files[file++] ?? Buffer.alloc(0)));
  assert.deepEqual(Buffer.concat(parts), archive);
  assert.deepEqual(
    lines.map((line) => line.position),
    lines.map((_, position) => position),
  );
  const entries = lines.filter((line) => line.type === 1);
  assert.deepEqual(entries[0], { type: 1, name: 'd/', payload: null, position: 1 });
  assert.equal(entries[1]?.size, 5);
  assert.deepEqual([entries[2]?.name, entries[2]?.name_raw], [undefined, 'Zv8=']);
  assert.deepEqual([entries[3]?.size, entries[3]?.payload], [undefined, null]);
  assert.ok(lines.every((line) => Buffer.from(line.payload ?? '', 'base64').length <= 1 << 20));
});

test('TarSplitWriter gives the sum of a file as eight bytes', () => {
  const { lines } = describe(buildTar([{ name: 'f', data: '123456789' }]));
  assert.equal(Buffer.from(lines[1]?.payload ?? '', 'base64').toString('hex'), 'b90956c775a41001');
});
