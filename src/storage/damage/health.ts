import { isDeepStrictEqual } from 'node:util';
import { systemClock } from '../../base/clock.ts';
import { CrioError, messageOf } from '../../base/errors.ts';
import { deleteLayers } from '../delete-layers.ts';
import { tarSplitPath } from '../paths.ts';
import type { ContainerStore, ImageRecord, StoreDamage, StoreHealth } from '../store.ts';
import type { Trash } from '../trash.ts';
import { BackgroundVerifier } from './background-verifier.ts';
import { deleteOldLayers, layerCreatedNs } from './delete-old-layers.ts';
import { allImages, chainOf, containerDamage, imageDamage, imageLayers, inspectLayer } from './find-damage.ts';
import type { CheckContext, KnownLayer } from './find-damage.ts';
import { describeDamage } from './quarantine.ts';
import type { Quarantine } from './quarantine.ts';
import { verifyLayer } from './verify-layer.ts';
import type { LayerFault, LayerToVerify } from './verify-layer.ts';

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
    walk: (request) => walk(options, request),
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

async function contentFault(
  { state, driver }: HealthOptions,
  { record, isPlain }: KnownLayer,
  verify: (layer: LayerToVerify) => Promise<LayerFault | undefined>,
): Promise<LayerFault | undefined> {
  const { id, diffDigest } = record;
  if (!isPlain || diffDigest?.startsWith('sha256:') !== true) return undefined;
  const diffFolder = await driver.plainContent(id);
  if (diffFolder === undefined) return undefined;
  const tarSplit = tarSplitPath(state.paths.layers, id);
  const hasWhiteouts = driver.name === 'overlay';
  return verify({ diffFolder, tarSplit, diffDigest, hasWhiteouts });
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

/** First what costs little, for every layer, then the contents. Each damaged image is marked as soon as it is known. */
async function walk(
  options: HealthOptions,
  request: { readonly contents: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const { log } = options.state;
  const { contents, signal } = request;
  try {
    const faults = new Map<string, string>();
    for (const layer of await imageLayers(options)) {
      if (signal.aborted) return;
      const reason = await inspectLayer(options, layer);
      if (reason !== undefined && (await isStillDamaged(options, layer))) faults.set(layer.record.id, reason);
    }
    await markImages(options, faults, signal);
    if (!contents) return;
    await deleteOldLayers(options);
    await walkContents(options, faults, signal);
  } catch (error) {
    if (!signal.aborted) log.warn('look for damage in the storage', error);
  }
}

async function walkContents(options: HealthOptions, faults: Map<string, string>, signal: AbortSignal): Promise<void> {
  const { log } = options.state;
  await using verifier = new BackgroundVerifier();
  for (const layer of await imageLayers(options)) {
    const { id } = layer.record;
    if (faults.has(id)) continue;
    const fault = await contentFault(options, layer, (task) => verifier.verify(task, signal)).catch(
      (error: unknown) => {
        signal.throwIfAborted();
        log.warn(`look at layer "${id}"`, error);
        return undefined;
      },
    );
    if (fault === undefined) continue;
    if (fault.canRun) log.warn(`layer "${id}": ${fault.reason}`);
    else if (await isKnown(options, id)) {
      faults.set(id, fault.reason);
      await markImages(options, new Map([[id, fault.reason]]), signal);
    }
  }
  log.info('looked at the contents of all images');
}

/** Another program may have deleted the layer while we looked. */
async function isKnown({ state }: HealthOptions, id: string): Promise<boolean> {
  await state.refresh('layers');
  return state.layers.get(id)?.isIncomplete === false;
}

async function isStillDamaged(options: HealthOptions, layer: KnownLayer): Promise<boolean> {
  if (!layer.isReadOnly && !(await isKnown(options, layer.record.id))) return false;
  return (await inspectLayer(options, layer)) !== undefined;
}

async function markImages(
  options: HealthOptions,
  faults: ReadonlyMap<string, string>,
  signal: AbortSignal,
): Promise<void> {
  const { quarantine, state } = options;
  for (const { image, isReadOnly } of await allImages(options)) {
    if (signal.aborted) return;
    const known = quarantine.damageOf(image.id);
    const damage = await imageDamage(options, image, new Map([...(known?.layers ?? []), ...faults]));
    if (damage === undefined) continue;
    await state.refresh('images');
    if (!isReadOnly && !isUnchanged(image, state.images.get(image.id))) continue;
    try {
      await quarantine.add(image.id, damage, { isReadOnly });
    } catch (error) {
      state.log.warn(`mark image "${image.id}": ${messageOf(error)}`);
    }
  }
}

/** Not deleted, and not pulled again, while we looked. Whenever another program writes the index, all records are new. */
function isUnchanged(image: ImageRecord, now: ImageRecord | undefined): boolean {
  const looked = ({ topLayer, bigDataDigests, bigDataSizes }: ImageRecord) => [topLayer, bigDataDigests, bigDataSizes];
  return now !== undefined && isDeepStrictEqual(looked(image), looked(now));
}
