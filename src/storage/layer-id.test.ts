import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { layerIdFor } from './layer-id.ts';
import { parentsFirst } from './parents-first.ts';

test('layerIdFor gives the ids of containers/storage', () => {
  const base = '480391d02cc0c77bd019029c2aa485c6af4c36b5cbda001b3a44b06ed4f37ea1';
  assert.equal(layerIdFor(undefined, `sha256:${base}`), base);
  assert.equal(
    layerIdFor(base, 'sha256:e5c173e1c3366a5067efc4967bbfdb395c021319ba7ab609ad0bc9e89c77def0'),
    '6d80aed450ab3b8e91601455cd7ad7b0a82bd95d95fbb0b38d004ae6ae09434f',
  );
  assert.throws(() => layerIdFor(undefined, 'sha512:00'), /not a SHA-256 digest/);
});

test('parentsFirst orders any set of layers, and leaves out those whose parent is missing', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20), { maxLength: 20 }), fc.infiniteStream(fc.nat()), (parents, randoms) => {
      const layers = parents.map((parent, at) => ({ id: `${at}`, parent: parent === at ? undefined : `${parent}` }));
      const shuffled = layers
        .map((layer) => [randoms.next().value ?? 0, layer] as const)
        .sort(([a], [b]) => a - b)
        .map(([, layer]) => layer);
      const ordered = parentsFirst(shuffled, () => false);
      const done = new Set<string>();
      for (const layer of ordered) {
        assert.ok(layer.parent === undefined || done.has(layer.parent));
        done.add(layer.id);
      }
      for (const layer of layers) if (layer.parent === undefined) assert.ok(done.has(layer.id));
    }),
  );
});
