import { systemClock } from '../../base/clock.ts';
import { CrioError } from '../../base/errors.ts';
import { deleteLayers } from '../delete-layers.ts';
import type { ContainerStore, StoreDamage, StoreHealth } from '../store.ts';
import type { Trash } from '../trash.ts';
import { contentFault } from './content-fault.ts';
import { layerCreatedNs } from './delete-old-layers.ts';
import { allImages, chainOf, containerDamage, imageDamage, imageLayers, inspectLayer } from './find-damage.ts';
import type { CheckContext } from './find-damage.ts';
import { describeDamage } from './quarantine.ts';
import type { Quarantine } from './quarantine.ts';
import { verifyLayer } from './verify-layer.ts';
import { walkStore } from './walk-store.ts';

export interface HealthOptions extends CheckContext {
  readonly quarantine: Quarantine;
  readonly containers: ContainerStore;
  readonly trash: Trash;
}

export function createHealth(options: HealthOptions): StoreHealth {
  const { quarantine } = options;
  return {
    check: (request) => check(options, request),
    repair: (damage, request) => repair(options, damage, request.containers),
    walk: (request) => walkStore(options, request),
    damageOf(imageId) {
      const damage = quarantine.damageOf(imageId);
      return damage === undefined ? undefined : describeDamage(damage);
    },
  };
}

async function check(
  options: HealthOptions,
  request: { readonly contents: boolean; readonly maxAgeMs: number },
): Promise<StoreDamage> {
  const [layers, readOnlyLayers] = [new Map<string, string>(), new Map<string, string>()];
  for (const layer of await imageLayers(options)) {
    const reason =
      (await inspectLayer(options, layer)) ??
      (request.contents ? (await contentFault(options, layer, verifyLayer))?.reason : undefined);
    if (reason !== undefined) (layer.isReadOnly ? readOnlyLayers : layers).set(layer.record.id, reason);
  }
  const faults = new Map([...layers, ...readOnlyLayers]);
  const [images, readOnlyImages] = [new Map<string, string>(), new Map<string, string>()];
  for (const { image, isReadOnly } of await allImages(options)) {
    const damage = await imageDamage(options, image, faults);
    if (damage !== undefined) (isReadOnly ? readOnlyImages : images).set(image.id, describeDamage(damage));
  }
  for (const id of await unusedLayers(options, request.maxAgeMs))
    if (!layers.has(id)) layers.set(id, 'nothing uses it');
  const containers = new Map<string, string>();
  for (const container of await options.containers.list()) {
    const reason = await containerDamage(options, container);
    if (reason !== undefined) containers.set(container.id, reason);
  }
  return { layers, readOnlyLayers, images, readOnlyImages, containers };
}

/** Image layers older than `maxAgeMs` that no image and no container has in its chain. */
async function unusedLayers(options: HealthOptions, maxAgeMs: number): Promise<readonly string[]> {
  const { state } = options;
  const used = new Set<string>();
  const tops = (await allImages(options)).map(({ image }) => image.topLayer);
  for (const { layerId } of await options.containers.list()) tops.push(layerId);
  for (const { mappedLayers } of state.images.list()) tops.push(...mappedLayers);
  for (const top of tops) for (const { id } of chainOf(state, new Map(), top)) used.add(id);
  const oldest = systemClock.nowNs() - BigInt(maxAgeMs) * 1_000_000n;
  return (await imageLayers(options)).flatMap(({ record: { id }, isReadOnly }) => {
    if (isReadOnly || used.has(id)) return [];
    return (layerCreatedNs(state, id) ?? 0n) < oldest ? [id] : [];
  });
}

async function repair(options: HealthOptions, damage: StoreDamage, repairsContainers: boolean): Promise<void> {
  const { state, driver, containers, images, trash } = options;
  if (repairsContainers) {
    for (const id of damage.containers.keys()) {
      await containers.unmount(id);
      await containers.delete(id);
    }
  }
  for (const id of damage.images.keys()) await images.delete(id);
  // Layers of no image: an image takes its own along.
  await state.transact(
    async (transaction) => {
      const left = childrenFirst(state, [...damage.layers.keys()]);
      await trash.use((folder) => deleteLayers({ state, driver, trash: folder, transaction }, left));
    },
    { alone: true },
  );
}

/** Those that are there and have no other children. Throws when a container uses one. */
function childrenFirst(state: HealthOptions['state'], ids: readonly string[]): readonly string[] {
  const wanted = new Set(ids.filter((id) => state.layers.get(id) !== undefined));
  const ordered: string[] = [];
  for (let before = -1; before !== ordered.length;) {
    before = ordered.length;
    for (const id of wanted) {
      const child = state.layers.list().find((layer) => layer.parent === id && !ordered.includes(layer.id));
      if (child !== undefined) continue;
      wanted.delete(id);
      ordered.push(id);
    }
  }
  const [stuck] = wanted;
  const child = state.layers.list().find((layer) => layer.parent === stuck);
  if (stuck === undefined) return ordered;
  throw new CrioError(
    'failed-precondition',
    `delete damaged layer "${stuck}": layer "${child?.id ?? ''}" is on top of it`,
  );
}
