/** Layers whose parent is neither known nor staged are left out: they wait for it. */
export function parentsFirst<L extends { readonly id: string; readonly parent: string | undefined }>(
  layers: readonly L[],
  isKnown: (id: string) => boolean,
): L[] {
  const ordered: L[] = [];
  const done = new Set<string>();
  let rest = [...layers];
  for (let before = -1; before !== rest.length;) {
    before = rest.length;
    rest = rest.filter((layer) => {
      if (layer.parent !== undefined && !done.has(layer.parent) && !isKnown(layer.parent)) return true;
      done.add(layer.id);
      ordered.push(layer);
      return false;
    });
  }
  return ordered;
}
