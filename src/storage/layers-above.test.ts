import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layersAbove } from './layers-above.ts';

test('layers above are found with their distance, over layers that nobody asked for and one that is missing', () => {
  const layer = (id: string, parent?: string) => ({ id, parent });
  const layers = [
    layer('top', 'middle'),
    layer('middle', 'bottom'),
    layer('other', 'bottom'),
    layer('lost-child', 'lost'),
  ];
  assert.deepEqual(
    [...layersAbove(layers, ['bottom', 'lost', 'top'])],
    [
      [
        'bottom',
        [
          { id: 'top', depth: 2 },
          { id: 'middle', depth: 1 },
          { id: 'other', depth: 1 },
        ],
      ],
      ['lost', [{ id: 'lost-child', depth: 1 }]],
      ['top', []],
    ],
  );
});
