import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Pod } from './pod.ts';
import { PodStore } from './store.ts';

function pod(id: string, createdAtNs: bigint): Pod {
  // Only these members matter to the store.
  return { id, name: `name-${id}`, createdAtNs } as Pod;
}

const a = pod(`aa1${'0'.repeat(61)}`, 1n);
const b = pod(`ab2${'0'.repeat(61)}`, 2n);

test('list is newest first and leaves hidden pods out', () => {
  const store = new PodStore();
  for (const item of [a, b]) store.add(item);
  assert.deepEqual(store.list(), []);
  assert.equal(store.findByName(a.name)?.isHidden, true);
  assert.equal(store.find(a.id), undefined);
  for (const item of [a, b]) store.publish(item);
  assert.deepEqual(store.list(), [b, a]);
  assert.equal(store.list(), store.list());
  store.remove(b);
  assert.deepEqual(store.list(), [a]);
  assert.equal(store.findByName(b.name), undefined);
});

test('an announced pod is known by its id alone, until it is withdrawn', () => {
  const store = new PodStore();
  store.announce(a);
  assert.equal(store.known(a.id), a);
  assert.deepEqual([store.find(a.id), store.get(a.id), store.list()], [undefined, undefined, []]);
  store.withdraw(a.id);
  assert.equal(store.known(a.id), undefined);
  const made = { ...a };
  store.announce(a);
  store.add(made);
  assert.equal(store.known(a.id), made);
  store.remove(made);
  assert.equal(store.known(a.id), undefined);
});

test('find takes unique prefixes only', () => {
  const store = new PodStore();
  for (const item of [a, b]) {
    store.add(item);
    store.publish(item);
  }
  assert.equal(store.find('aa'), a);
  assert.equal(store.find(b.id), b);
  assert.equal(store.find('a'), undefined);
  assert.equal(store.find(''), undefined);
  assert.equal(store.find('c'), undefined);
});

test('find agrees with a search through the list', () => {
  const hex = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(
      fc.uniqueArray(hex, { maxLength: 6 }),
      fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 }),
      (heads, prefix) => {
        const store = new PodStore();
        for (const [index, head] of heads.entries()) {
          const item = pod(head.padEnd(64, '0'), BigInt(index));
          store.add(item);
          store.publish(item);
        }
        const matches = store.list().filter((item) => item.id.startsWith(prefix));
        assert.equal(store.find(prefix), matches.length === 1 ? matches[0] : undefined);
      },
    ),
  );
});
