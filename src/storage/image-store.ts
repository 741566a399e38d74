import { randomBytes } from 'node:crypto';
import { mkdir, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CrioError, wrap } from '../base/errors.ts';
import type { CrashNote } from '../sys/crash-note.ts';
import { finishHealing } from './damage/finish-healing.ts';
import type { Quarantine } from './damage/quarantine.ts';
import type { AdditionalStore } from './additional-store.ts';
import { atomicWrite, syncPath } from './index/atomic-write.ts';
import { bigDataFile } from './index/big-data-name.ts';
import { factsOf } from './index/image-record.ts';
import type { IndexedImage } from './index/image-record.ts';
import { isObject, isSize } from './index/json-fields.ts';
import { forgetData, removeData } from './image-data.ts';
import { putRecord, setNames } from './image-names.ts';
import { applyUpdate, prepareUpdate, updateFolder } from './image-update.ts';
import { deleteLayers, unusedLayers } from './delete-layers.ts';
import type { Driver } from './driver.ts';
import type { LayerSource } from './layer-store.ts';
import { addToKnown } from './known-image.ts';
import { readBigData } from './read-big-data.ts';
import { removeTree } from './remove-tree.ts';
import type { ChangeNames, ImageRecord, ImageStore, NewImage } from './store.ts';
import type { StoreState, Transaction } from './store-state.ts';
import type { Trash } from './trash.ts';

export interface ImageStoreOptions {
  readonly state: StoreState;
  readonly driver: Driver;
  readonly trash: Trash;
  readonly sources: LayerSource;
  readonly quarantine: Quarantine;
  /** Layers in the index that no image has, for a while. */
  readonly loose: CrashNote;
  readonly additional: readonly AdditionalStore[];
}

export function createImageStore(options: ImageStoreOptions): ImageStore {
  const { state, quarantine } = options;
  const storing: RunningPuts = new Map();
  const find = (idOrName: string) => findImage(options, idOrName);
  return {
    list: () => listSound(options),
    find: async (idOrName) => {
      const image = (await find(idOrName))?.image;
      return image === undefined || quarantine.damageOf(image.id) !== undefined ? undefined : image;
    },
    async damaged() {
      await state.refresh('images');
      const ids = new Set(quarantine.images());
      return ids.size === 0 ? [] : (await listImages(options)).filter(({ id }) => ids.has(id));
    },
    readBigData: async (imageId, key) => {
      const found = await find(imageId);
      if (found?.image.bigDataNames.includes(key) !== true) return undefined;
      const { image, folder } = found;
      return readBigData(`${folder}/${image.id}`, key);
    },
    size: async (imageId) => {
      const image = (await find(imageId))?.image;
      if (image === undefined) throw new CrioError('not-found', `image "${imageId}" is not in storage`);
      return recordSize(image) + (await options.sources.chainSize(image.topLayer));
    },
    put: (image) => put(options, storing, image),
    changeNames: (imageId, change) => state.transact(() => changeNames(options, imageId, change), { alone: true }),
    delete: (imageId, left, shouldDelete = always) =>
      state.transact(
        async (transaction) => (await shouldDelete()) && (await remove(options, imageId, { left, transaction })),
        { alone: true },
      ),
  };
}

const always = async (): Promise<boolean> => true;

/** Without those in quarantine. */
async function listSound(options: ImageStoreOptions): Promise<readonly ImageRecord[]> {
  const images = await listImages(options);
  const damaged = new Set(options.quarantine.images());
  return damaged.size === 0 ? images : images.filter(({ id }) => !damaged.has(id));
}

/** Own images, then those of additional stores that have another id. */
async function listImages({ state, additional }: ImageStoreOptions): Promise<readonly ImageRecord[]> {
  await state.refresh('images');
  const own = state.images.list();
  if (additional.length === 0) return own;
  const all = new Map(own.map((image): [string, ImageRecord] => [image.id, image]));
  for (const store of additional)
    for (const image of (await store.images()).list()) if (!all.has(image.id)) all.set(image.id, image);
  return [...all.values()];
}

/** The image, and the folder that holds its data. */
async function findImage(
  { state, additional }: ImageStoreOptions,
  idOrName: string,
): Promise<{ image: ImageRecord; folder: string } | undefined> {
  await state.refresh('images');
  const own = state.images.find(idOrName);
  if (own !== undefined) return { image: own, folder: state.imageFolder(own.id) };
  for (const store of additional) {
    const image = (await store.images()).find(idOrName);
    if (image !== undefined) return { image, folder: store.imagesFolder };
  }
  return undefined;
}

/** Big data and signatures, bytes. */
function recordSize(image: ImageRecord): number {
  let size = 0;
  for (const bytes of image.bigDataSizes.values()) size += bytes;
  for (const bytes of signatureSizes(image.metadata)) size += bytes;
  return size;
}

function signatureSizes(metadata: string): number[] {
  let value: unknown;
  try {
    value = JSON.parse(metadata);
  } catch {
    return [];
  }
  if (!isObject(value)) return [];
  const lists = [
    value['signature-sizes'],
    ...(isObject(value['signatures-sizes']) ? Object.values(value['signatures-sizes']) : []),
  ];
  return lists.flatMap((list) => (Array.isArray(list) ? list.filter(isSize) : []));
}

async function put(options: ImageStoreOptions, storing: RunningPuts, image: NewImage): Promise<ImageRecord> {
  const { state, quarantine } = options;
  await options.sources.commit(image.topLayer);
  try {
    const record = await putOnce(options, storing, image);
    forgetLoose(options, image.topLayer);
    if (quarantine.damageOf(image.id) === undefined) return record;
    const heal = (transaction: Transaction) => finishHealing({ state, quarantine, transaction }, image);
    return (await state.transact(heal, { alone: true })) ?? record;
  } catch (error) {
    throw wrap(`store image "${image.id}"`, error);
  }
}

/** By image id; each writes all data of its image. */
type RunningPuts = Map<string, Promise<unknown>>;

/**
 * An image may be pulled under many names at once: the first stores it, the others wait for that, and add their names to
 * what is there then.
 */
async function putOnce(options: ImageStoreOptions, storing: RunningPuts, image: NewImage): Promise<ImageRecord> {
  for (;;) {
    const known = await addToKnown(options, image);
    if (known !== undefined) return known;
    const running = storing.get(image.id);
    if (running === undefined) break;
    await running.catch(() => undefined);
  }
  const whole = putWhole(options, image);
  storing.set(image.id, whole);
  try {
    return await whole;
  } finally {
    storing.delete(image.id);
  }
}

/** Data first and synced, then the record: an image without its manifest would break every listing of other programs. */
async function putWhole(options: ImageStoreOptions, image: NewImage): Promise<ImageRecord> {
  const { state } = options;
  const folder = state.imageFolder(image.id);
  const staged = `${folder}/.tmp-${randomBytes(8).toString('hex')}`;
  try {
    await mkdir(staged, { mode: 0o700 });
    await Promise.all(
      image.bigData.map(({ key, data }) => atomicWrite(`${staged}/${bigDataFile(key)}`, data, { durable: true })),
    );
    state.step('image data written');
    return await state.transact((transaction) => addRecord(options, image, { staged, transaction }), { alone: true });
  } catch (error) {
    await forgetData(state, folder, image.id);
    throw error;
  } finally {
    await removeTree(staged);
  }
}

/** An image has them now. */
function forgetLoose({ state, loose }: ImageStoreOptions, topLayer: string | undefined): void {
  const chain: string[] = [];
  for (let id = topLayer; id !== undefined; id = state.layers.get(id)?.parent) chain.push(id);
  loose.forget(chain);
}

interface Addition {
  /** A folder with the image's data, synced. */
  readonly staged: string;
  readonly transaction: Transaction;
}

async function addRecord(
  options: ImageStoreOptions,
  image: NewImage,
  { staged, transaction }: Addition,
): Promise<ImageRecord> {
  const { state } = options;
  const before = state.images.get(image.id);
  const topLayer = before === undefined ? image.topLayer : before.topLayer;
  if (topLayer !== image.topLayer) {
    throw new CrioError('already-exists', `it is there with top layer "${topLayer}" instead of "${image.topLayer}"`);
  }
  if (topLayer !== undefined && (await options.sources.findStored(topLayer)) === undefined) {
    throw new CrioError('failed-precondition', `layer "${topLayer}" is not in storage`);
  }
  const facts = factsOf(image);
  if (before !== undefined) {
    await prepareUpdate(state, facts, staged);
    state.step('image update prepared');
    const record = await applyUpdate(state, facts);
    await transaction.save();
    state.step('image record written');
    // Before anybody else can store this image, whose update it would be.
    await removeTree(updateFolder(state.imageFolder(image.id), image.id));
    return record;
  }
  const folder = dirname(staged);
  // Of an image of this id that another program has removed.
  await removeTree(updateFolder(folder, image.id));
  await removeTree(`${folder}/${image.id}`);
  await rename(staged, `${folder}/${image.id}`);
  await syncPath(folder);
  state.step('image data in place');
  const record = putRecord(state, facts, folder);
  await transaction.save();
  state.step('image record written');
  return record;
}

async function changeNames(options: ImageStoreOptions, imageId: string, change: ChangeNames): Promise<boolean> {
  const image = await findOwn(options, imageId);
  const names = image === undefined ? [] : [...new Set(change(image.names))];
  if (image === undefined || names.length === 0) return false;
  setNames(options.state, image, names);
  return true;
}

async function remove(
  options: ImageStoreOptions,
  imageId: string,
  { left, transaction }: { readonly left: ChangeNames | undefined; readonly transaction: Transaction },
): Promise<boolean> {
  const { state, driver, loose } = options;
  const image = await findOwn(options, imageId);
  if (image === undefined) return true;
  if (left !== undefined && left(image.names).length > 0) return false;
  const user = state.containers.list().find((container) => container.imageId === imageId);
  if (user !== undefined) {
    // Text of containers/storage; clients match the second half.
    throw new CrioError('failed-precondition', `image used by ${user.id}: image is in use by a container`);
  }
  const folders = state.images.filesOf(imageId).map((file) => dirname(file));
  state.images.remove(imageId);
  const layers = unusedLayers(state, image);
  await loose.note(layers);
  await transaction.save();
  state.step('image record removed');
  for (const folder of folders) await removeData(folder, imageId);
  state.step('image data removed');
  await options.trash.use((trash) => deleteLayers({ state, driver, trash, transaction }, layers));
  loose.forget(layers);
  return true;
}

/** Throws for one that is in an additional store alone. */
async function findOwn(options: ImageStoreOptions, imageId: string): Promise<IndexedImage | undefined> {
  const image = options.state.images.get(imageId);
  if (image === undefined && (await findImage(options, imageId)) !== undefined) throw readOnly(imageId);
  return image;
}

function readOnly(imageId: string): CrioError {
  return new CrioError('failed-precondition', `image "${imageId}" is in an additional image store, which is read-only`);
}
