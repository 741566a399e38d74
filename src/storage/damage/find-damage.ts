import { createHash } from 'node:crypto';
import { messageOf } from '../../base/errors.ts';
import type { AdditionalStore } from '../additional-store.ts';
import type { Driver } from '../driver.ts';
import type { IndexedLayer } from '../index/layer-record.ts';
import type { ContainerRecord, ImageRecord, ImageStore } from '../store.ts';
import type { StoreState } from '../store-state.ts';
import { transientParents } from '../transient-records.ts';
import type { ImageDamage } from './quarantine.ts';

export interface CheckContext {
  readonly state: StoreState;
  readonly driver: Driver;
  readonly images: ImageStore;
  readonly additional: readonly AdditionalStore[];
}

/** An image layer to look at, of the own store or of an additional one. */
export interface KnownLayer {
  readonly record: IndexedLayer;
  readonly isReadOnly: boolean;
  /** The content has the ids of its archive, in the folder of that name: it can be compared with it. */
  readonly isPlain: boolean;
}

/** Every layer that an image may have. Layers that containers write to are none of them. */
export async function imageLayers({ state, additional }: CheckContext): Promise<readonly KnownLayer[]> {
  await state.refresh('layers');
  const own = state.layers
    .list()
    .filter((layer) => state.layers.fileOf(layer.id) !== state.files.containerLayers)
    .filter((layer) => layer.diffDigest !== undefined && !layer.isIncomplete)
    .map((record) => ({ record, isReadOnly: false, isPlain: state.layers.raw(record.id)?.['uidmap'] === undefined }));
  const known = new Map<string, KnownLayer>(own.map((layer) => [layer.record.id, layer]));
  for (const store of additional) {
    for (const record of (await store.layers()).list())
      if (!known.has(record.id)) known.set(record.id, { record, isReadOnly: true, isPlain: false });
  }
  return [...known.values()];
}

/** Images of the own store, then of additional ones. Also those in quarantine. */
export async function allImages({
  state,
  additional,
}: CheckContext): Promise<readonly { readonly image: ImageRecord; readonly isReadOnly: boolean }[]> {
  await state.refresh('images');
  const all = new Map<string, { image: ImageRecord; isReadOnly: boolean }>();
  for (const image of state.images.list()) all.set(image.id, { image, isReadOnly: false });
  for (const store of additional)
    for (const image of (await store.images()).list())
      if (!all.has(image.id)) all.set(image.id, { image, isReadOnly: true });
  return [...all.values()];
}

/** What is wrong with the folder and the names of a layer, without reading its content. */
export async function inspectLayer(
  { driver }: CheckContext,
  { record, isReadOnly }: KnownLayer,
): Promise<string | undefined> {
  try {
    return await driver.inspect(record.id, { hasParent: record.parent !== undefined, isOwn: !isReadOnly });
  } catch (error) {
    return messageOf(error);
  }
}

/** Damage of an image: its data, layers that have no record, and those of its layers that are known to be damaged. */
export async function imageDamage(
  context: CheckContext,
  image: ImageRecord,
  faults: ReadonlyMap<string, string>,
): Promise<ImageDamage | undefined> {
  const layers = new Map<string, string>();
  for (const id of chainOf(context.state, await layersById(context), image.topLayer)) {
    const reason = id.isKnown ? faults.get(id.id) : 'it has no record';
    if (reason !== undefined) layers.set(id.id, reason);
  }
  const data = (await dataDamage(context, image)) ?? '';
  return data === '' && layers.size === 0 ? undefined : { data, layers };
}

/** Layers that are used by what is in no index of the own store. */
export async function otherTops({ state, additional }: CheckContext): Promise<readonly string[]> {
  const tops = [...(await transientParents(state))];
  for (const store of additional)
    for (const { topLayer } of (await store.images()).list()) if (topLayer !== undefined) tops.push(topLayer);
  return tops;
}

/** From this layer down. A layer without record ends the chain, and one that is its own ancestor. */
export function chainOf(
  state: StoreState,
  others: ReadonlyMap<string, IndexedLayer>,
  top: string | undefined,
): readonly { readonly id: string; readonly isKnown: boolean }[] {
  const chain: { id: string; isKnown: boolean }[] = [];
  const seen = new Set<string>();
  for (let id = top; id !== undefined && !seen.has(id);) {
    seen.add(id);
    const record: IndexedLayer | undefined = state.layers.get(id) ?? others.get(id);
    chain.push({ id, isKnown: record !== undefined && !record.isIncomplete });
    id = record?.parent;
    if (id !== undefined && seen.has(id)) chain.push({ id, isKnown: false });
  }
  return chain;
}

async function layersById(context: CheckContext): Promise<ReadonlyMap<string, IndexedLayer>> {
  await context.state.refresh('layers');
  const layers = new Map<string, IndexedLayer>();
  for (const store of context.additional)
    for (const record of (await store.layers()).list()) layers.set(record.id, record);
  return layers;
}

async function dataDamage({ images }: CheckContext, image: ImageRecord): Promise<string | undefined> {
  for (const key of image.bigDataNames) {
    const reason = await itemDamage(image, key, () => images.readBigData(image.id, key));
    if (reason !== undefined) return reason;
  }
  return undefined;
}

/** What is wrong with one data item of an image. */
export async function itemDamage(
  image: ImageRecord,
  key: string,
  read: () => Promise<Buffer | undefined>,
): Promise<string | undefined> {
  let data: Buffer | undefined;
  try {
    data = await read();
  } catch (error) {
    return messageOf(error);
  }
  if (data === undefined) return `data item "${key}" is missing`;
  return isAsRecorded(image, key, data) ? undefined : `data item "${key}" has another content`;
}

/**
 * A re-pull of another program under another manifest that was cut short leaves `manifest` newer than the record: it is
 * whole, and one of the image's own. Digests of signed schema 1 manifests are those of a part of them.
 */
function isAsRecorded(image: ImageRecord, key: string, data: Buffer): boolean {
  const digest = `sha256:${createHash('sha256').update(data).digest('hex')}`;
  const wanted = image.bigDataDigests.get(key);
  if (wanted === undefined || !wanted.startsWith('sha256:') || wanted === digest) {
    const size = image.bigDataSizes.get(key);
    return size === undefined || size === data.length;
  }
  if (!key.startsWith('manifest')) return false;
  return isWholeManifest(data);
}

function isWholeManifest(data: Buffer): boolean {
  try {
    const value: unknown = JSON.parse(data.toString());
    return typeof value === 'object' && value !== null && 'schemaVersion' in value;
  } catch {
    return false;
  }
}

/** What is wrong with a container's record, image and writable layer. */
export async function containerDamage(context: CheckContext, container: ContainerRecord): Promise<string | undefined> {
  const { imageId, layerId } = container;
  if (imageId !== '' && !(await allImages(context)).some(({ image }) => image.id === imageId)) {
    return `image ${imageId} is missing`;
  }
  const missing = chainOf(context.state, await layersById(context), layerId).find(({ isKnown }) => !isKnown);
  if (missing !== undefined) return `layer ${missing.id} is missing`;
  if (layerId !== '' && !(await context.driver.exists(layerId))) return `the folder of layer ${layerId} is missing`;
  return undefined;
}
