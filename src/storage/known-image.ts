import { statSync } from 'node:fs';
import { readBounded } from '../base/read-bounded.ts';
import { putRecord } from './image-names.ts';
import { updateFolder } from './image-update.ts';
import { bigDataFile } from './index/big-data-name.ts';
import { factsOf } from './index/image-record.ts';
import type { LayerSource } from './layer-store.ts';
import type { ImageRecord, NewImage } from './store.ts';
import type { StoreState } from './store-state.ts';

/**
 * Stores an image that is there with the same data, byte for byte, under more names: only its record changes, in one write
 * for all who wait. undefined when it is not there like that.
 */
export async function addToKnown(
  { state, sources }: { readonly state: StoreState; readonly sources: LayerSource },
  image: NewImage,
): Promise<ImageRecord | undefined> {
  await state.refresh('images');
  if (!hasFacts(state.images.get(image.id), image)) return undefined;
  if (image.topLayer !== undefined && (await sources.findStored(image.topLayer)) === undefined) return undefined;
  const folder = `${state.imageFolder(image.id)}/${image.id}`;
  for (const { key, data } of image.bigData)
    if (!(await hasContent(`${folder}/${bigDataFile(key)}`, data))) return undefined;
  return state.transact(async () => {
    // Another program may have removed it meanwhile. Nothing is awaited from here on: others change names beside it.
    if (!hasFacts(state.images.get(image.id), image) || isBeingUpdated(state, image.id)) return undefined;
    return putRecord(state, factsOf(image));
  });
}

/** An update that failed half-way would be finished at the next start, over what is stored now; a whole one replaces it. */
function isBeingUpdated(state: StoreState, imageId: string): boolean {
  return statSync(updateFolder(state.imageFolder(imageId), imageId), { throwIfNoEntry: false }) !== undefined;
}

function hasFacts(record: ImageRecord | undefined, { topLayer, bigData }: NewImage): boolean {
  if (record === undefined || record.topLayer !== topLayer) return false;
  return bigData.every(({ key, digest }) => record.bigDataDigests.get(key) === digest);
}

async function hasContent(path: string, data: Uint8Array): Promise<boolean> {
  try {
    return (await readBounded(path, data.length)).equals(data);
  } catch {
    // Missing, longer, not readable: it is written anew.
    return false;
  }
}
