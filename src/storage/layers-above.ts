import type { LayerRecord } from './store.ts';

export interface LayerAbove {
  readonly id: string;
  /** How far above: 1 for a child. */
  readonly depth: number;
}

/** For each of these layers those of the index that have it below them, in one pass over the index. */
export function layersAbove(
  layers: readonly Pick<LayerRecord, 'id' | 'parent'>[],
  ids: readonly string[],
): ReadonlyMap<string, readonly LayerAbove[]> {
  const above = new Map(ids.map((id): [string, LayerAbove[]] => [id, []]));
  const parents = new Map(layers.map((layer) => [layer.id, layer.parent]));
  for (const { id, parent } of layers) {
    let depth = 1;
    for (let below = parent; below !== undefined; below = parents.get(below)) {
      above.get(below)?.push({ id, depth });
      depth += 1;
    }
  }
  return above;
}
