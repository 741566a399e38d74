import { randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';
import { removeTree } from './remove-tree.ts';
import type { StoreState } from './store-state.ts';
import { updateFolder } from './image-update.ts';

/** Removes the data of an image that has no record in this folder any more. */
export async function removeData(folder: string, imageId: string): Promise<void> {
  const gone = `${folder}/.tmp-${randomBytes(8).toString('hex')}`;
  try {
    await rename(`${folder}/${imageId}`, gone);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
  await removeTree(gone);
  await removeTree(updateFolder(folder, imageId));
}

/** Takes back the data of an image whose record could not be written. */
export async function forgetData(state: StoreState, folder: string, imageId: string): Promise<void> {
  const remove = async () => {
    if (!state.hasImageIn(folder, imageId)) await removeTree(`${folder}/${imageId}`);
  };
  try {
    await state.transact(remove, { alone: true });
  } catch (error) {
    state.log.warn(`take back data of image "${imageId}"`, error);
  }
}
