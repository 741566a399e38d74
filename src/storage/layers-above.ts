import type { LayerRecord } from './store.ts';

export interface LayerAbove {
  readonly id: string;
  /** How far above: 1 for a child. */
  readonly depth: number;
}

/** Layers of the index that have this one below them, whether it is in the index or not. */
export function layersAbove(layers: readonly LayerRecord[], id: string): readonly LayerAbove[] {
  const parents = new Map(layers.map((layer) => [layer.id, layer.parent]));
  return layers.flatMap((layer) => {
    let depth = 1;
    let below = layer.parent;
    for (; below !== undefined && below !== id; below = parents.get(below)) depth += 1;
    return below === undefined ? [] : [{ id: layer.id, depth }];
  });
}
