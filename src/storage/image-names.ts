import { namesJson } from './index/image-record.ts';
import type { JsonObject } from './index/json-fields.ts';
import type { ImageRecord } from './store.ts';
import type { StoreState } from './store-state.ts';

export function setNames(state: StoreState, image: ImageRecord, names: readonly string[]): void {
  takeNames(state, image.id, names);
  renameRecord(state, image, names);
}

/** A name belongs to one image: the one that had it keeps it in its history. */
export function takeNames(state: StoreState, imageId: string, names: readonly string[]): void {
  for (const name of names) {
    const owner = state.images.getByName(name);
    if (owner === undefined || owner.id === imageId) continue;
    renameRecord(
      state,
      owner,
      owner.names.filter((candidate) => candidate !== name),
    );
  }
}

function renameRecord(state: StoreState, image: ImageRecord, names: readonly string[]): void {
  const raw: JsonObject = { ...state.images.raw(image.id), ...namesJson(names, image.namesHistory) };
  state.images.put(raw, state.files.images);
}
