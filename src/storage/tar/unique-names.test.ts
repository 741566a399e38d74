import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { cleanPath } from './clean-path.ts';
import { FolderTimes } from './folder-times.ts';
import type { TarEntry } from './tar-reader.ts';
import { NameSet, UniqueNames } from './unique-names.ts';

/** Only the names are looked at. */
function entry(path: string): TarEntry {
  const name = Buffer.from(path, 'latin1');
  return {
    ...{ type: 'file', typeFlag: '0', name, path, linkName: Buffer.alloc(0), mode: 0, uid: 0, gid: 0, size: 0 },
    ...{ mtimeNs: 0n, atimeNs: 0n, deviceMajor: 0, deviceMinor: 0, xattrs: new Map<string, Buffer>(), payload: 0 },
  };
}

describe('UniqueNames', () => {
  it('refuses what a set of clean paths would have', () => {
    const path = fc.array(fc.constantFrom('a', 'b', '.', '..', ''), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(path, { maxLength: 30 }), (paths) => {
        const names = new UniqueNames();
        const known = new Set<string>();
        for (const parts of paths) {
          const text = parts.join('/');
          if (known.has(cleanPath(text))) assert.throws(() => names.add(entry(text)), /duplicates of file paths/);
          else names.add(entry(text));
          known.add(cleanPath(text));
        }
      }),
    );
  });

  it('keeps many names, in little memory', () => {
    const names = new UniqueNames();
    const before = process.memoryUsage().heapUsed;
    for (let at = 0; at < 300_000; at++) names.add(entry(`usr/share/folder${at % 100}/file-${at}`));
    for (const at of [0, 1, 150_000, 299_999])
      assert.throws(() => names.add(entry(`usr/share/folder${at % 100}/file-${at}`)), /duplicates/);
    globalThis.gc?.();
    assert.ok(process.memoryUsage().heapUsed - before < 100e6);
  });
});

describe('NameSet', () => {
  it('has what was added, and nothing else', () => {
    const names = fc.uniqueArray(fc.string(), { maxLength: 30 });
    fc.assert(
      fc.property(names, names, (added, asked) => {
        const set = new NameSet();
        for (const name of added) assert.equal(set.add(name), true);
        for (const name of added) assert.equal(set.add(name), false);
        for (const name of [...added, ...asked]) assert.equal(set.has(name), added.includes(name));
      }),
    );
  });

  it('has a limit', () => {
    const set = new NameSet(3);
    for (const name of ['a', 'b', 'a', 'c']) set.add(name);
    assert.throws(() => set.add('d'), /more than 3 different names/);
  });
});

describe('FolderTimes', () => {
  it('gives back what was added', () => {
    const time = fc.bigInt({ min: -(2n ** 62n), max: 2n ** 62n });
    const path = fc.string({ unit: fc.constantFrom('a', '/', '\xff', '\n'), minLength: 1, maxLength: 200_000 });
    fc.assert(
      fc.property(fc.array(fc.record({ path, atimeNs: time, mtimeNs: time }), { maxLength: 20 }), (folders) => {
        const times = new FolderTimes();
        for (const folder of folders) times.add(folder);
        assert.deepEqual(
          [...times],
          folders.map((folder) => ({ ...folder })),
        );
      }),
    );
  });

  it('has a limit', () => {
    const times = new FolderTimes();
    const path = 'x'.repeat(4000);
    assert.throws(() => {
      for (;;) times.add({ path, atimeNs: 0n, mtimeNs: 0n });
    }, /more than 67108864 bytes of folder names/);
  });
});
