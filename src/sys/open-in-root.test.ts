import assert from 'node:assert/strict';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { O_DIRECTORY, O_PATH, O_RDONLY } from './arch.ts';
import { openInRoot } from './file.ts';

/** A tree as the model knows it: a file, a symlink's target, or a folder. */
type Node = { readonly file: true } | { readonly target: string } | Map<string, Node>;

const names = ['a', 'b', 'c'];
/** The kernel gives up after so many links on one path, path_resolution(7). */
const maxLinks = 40;

const part = fc.constantFrom(...names, '..', '.');
const path = fc
  .tuple(fc.boolean(), fc.array(part, { minLength: 1, maxLength: 5 }))
  .map(([isAbsolute, parts]) => (isAbsolute ? '/' : '') + parts.join('/'));

const { node: tree } = fc.letrec<{ node: Node; folder: Node }>((tie) => ({
  node: tie('folder'),
  folder: fc
    .dictionary(
      fc.constantFrom(...names),
      fc.oneof(
        { maxDepth: 3, withCrossShrink: true },
        fc.constant<Node>({ file: true }),
        path.map((target): Node => ({ target })),
        path.map((target): Node => ({ target })),
        tie('folder'),
      ),
      { noNullPrototype: true },
    )
    .map((entries): Node => new Map(Object.entries(entries))),
}));

function make(node: Map<string, Node>, at: string): void {
  for (const [name, child] of node) {
    const place = join(at, name);
    if (child instanceof Map) {
      mkdirSync(place);
      make(child, place);
    } else if ('target' in child) {
      symlinkSync(child.target, place);
    } else {
      writeFileSync(place, '');
    }
  }
}

/** As a process chrooted to the tree would resolve it: the parts of the real path, or the code of the error. */
function resolve(root: Map<string, Node>, text: string): readonly string[] | 'ENOENT' | 'ENOTDIR' | 'ELOOP' {
  const rest = text.split('/').filter((item) => item !== '');
  let at: { readonly names: string[]; readonly nodes: Node[] } = { names: [], nodes: [root] };
  let links = 0;
  for (let next = rest.shift(); next !== undefined; next = rest.shift()) {
    const here = at.nodes.at(-1);
    if (!(here instanceof Map)) return 'ENOTDIR';
    if (next === '.') continue;
    if (next === '..') {
      at = { names: at.names.slice(0, -1), nodes: at.nodes.length > 1 ? at.nodes.slice(0, -1) : at.nodes };
      continue;
    }
    const child = here.get(next);
    if (child === undefined) return 'ENOENT';
    if (!(child instanceof Map) && 'target' in child) {
      links += 1;
      if (links > maxLinks) return 'ELOOP';
      if (child.target.startsWith('/')) at = { names: [], nodes: [root] };
      rest.unshift(...child.target.split('/').filter((item) => item !== ''));
      continue;
    }
    at = { names: [...at.names, next], nodes: [...at.nodes, child] };
  }
  return at.names;
}

function open(rootFd: number, text: string): { readonly ino: number } | { readonly code: unknown } {
  let fd;
  try {
    fd = openInRoot(rootFd, text, O_PATH);
  } catch (error) {
    return { code: error instanceof Error && 'code' in error ? error.code : error };
  }
  const { ino } = fstatSync(fd);
  closeSync(fd);
  return { ino };
}

test('openInRoot resolves as a chrooted process does, in any tree of links', () => {
  const base = mkdtempSync(join(tmpdir(), 'open-in-root-'));
  let count = 0;
  try {
    fc.assert(
      fc.property(tree, fc.array(path, { minLength: 1, maxLength: 8 }), (node, paths) => {
        if (!(node instanceof Map)) return;
        // Deep below the base, so that a path that left the tree would still find folders with these names.
        const top = join(base, String(count++), 'a');
        const root = join(top, 'b');
        mkdirSync(root, { recursive: true });
        for (const name of ['a', 'c']) writeFileSync(join(top, name), 'outside');
        make(node, root);
        const rootFd = openSync(root, O_RDONLY | O_DIRECTORY);
        try {
          for (const text of paths) {
            const want = resolve(node, text);
            const expected = typeof want === 'string' ? { code: want } : { ino: statSync(join(root, ...want)).ino };
            assert.deepEqual(open(rootFd, text), expected, text);
          }
        } finally {
          closeSync(rootFd);
        }
      }),
      { numRuns: 200 },
    );
  } finally {
    rmSync(base, { recursive: true });
  }
});
