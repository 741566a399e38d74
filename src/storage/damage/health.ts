import { systemClock } from '../../base/clock.ts';
import type { StoreDamage, StoreHealth } from '../store.ts';
import { contentFault } from './content-fault.ts';
import { layerCreatedNs } from './delete-old-layers.ts';
import { allImages, chainOf, containerDamage, imageDamage, imageLayers, inspectLayer } from './find-damage.ts';
import type { KnownLayer } from './find-damage.ts';
import { layerVersion } from './layer-version.ts';
import { namesToPull } from './names-to-pull.ts';
import { describeDamage } from './quarantine.ts';
import { nothingUsesIt, repairStore } from './repair-store.ts';
import type { RepairOptions } from './repair-store.ts';
import { verifyLayer } from './verify-layer.ts';
import { walkStore } from './walk-store.ts';

export type HealthOptions = RepairOptions;

export function createHealth(options: HealthOptions): StoreHealth {
  const { quarantine } = options;
  return {
    check: (request) => check(options, request),
    repair: (damage, request) => repairStore(options, damage, request.containers),
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
  const versions = new Map<string, string>();
  for (const layer of await imageLayers(options)) {
    const { id } = layer.record;
    const version = await layerVersion(options, id);
    const reason = await layerFault(options, layer, request.contents);
    if (reason === undefined) continue;
    if (layer.isReadOnly) readOnlyLayers.set(id, reason);
    // Else another layer is there by now, or none.
    else if (version !== undefined && version === (await layerVersion(options, id))) {
      layers.set(id, reason);
      versions.set(id, version);
    }
  }
  const faults = new Map([...layers, ...readOnlyLayers]);
  const [images, readOnlyImages] = [new Map<string, string>(), new Map<string, string>()];
  const names = new Map<string, readonly string[]>();
  for (const { image, isReadOnly } of await allImages(options)) {
    const damage = await imageDamage(options, image, faults);
    if (damage === undefined) continue;
    (isReadOnly ? readOnlyImages : images).set(image.id, describeDamage(damage));
    names.set(image.id, namesToPull(image));
  }
  for (const id of await unusedLayers(options, request.maxAgeMs)) {
    const version = await layerVersion(options, id);
    if (layers.has(id) || version === undefined) continue;
    layers.set(id, nothingUsesIt);
    versions.set(id, version);
  }
  const containers = new Map<string, string>();
  for (const container of await options.containers.list()) {
    const reason = await containerDamage(options, container);
    if (reason !== undefined) containers.set(container.id, reason);
  }
  return { layers, versions, readOnlyLayers, images, readOnlyImages, names, containers };
}

async function layerFault(options: HealthOptions, layer: KnownLayer, contents: boolean): Promise<string | undefined> {
  const reason = await inspectLayer(options, layer);
  if (reason !== undefined || !contents) return reason;
  return (await contentFault(options, layer, verifyLayer))?.reason;
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
