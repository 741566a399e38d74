import { imageJson, namesJson } from './index/image-record.ts';
import type { ImageFacts } from './index/image-record.ts';
import type { JsonObject } from './index/json-fields.ts';
import { imagesIndex } from './paths.ts';
import type { ImageRecord } from './store.ts';
import type { StoreState } from './store-state.ts';

/**
 * Puts the record of an image into memory: a new one, in `folder`, or what it had with what is new. Its names become its own.
 */
export function putRecord(state: StoreState, facts: ImageFacts, folder = state.paths.images): ImageRecord {
  const raw = imageJson(facts, state.images.raw(facts.id));
  takeNames(state, facts.id, facts.addNames);
  return state.images.put(raw, imagesIndex(folder));
}

export function setNames(state: StoreState, image: ImageRecord, names: readonly string[]): void {
  takeNames(state, image.id, names);
  renameRecord(state, image, names);
}

/** A name belongs to one image: the one that had it keeps it in its history. */
function takeNames(state: StoreState, imageId: string, names: readonly string[]): void {
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
  // Names that the image has from its record in another root have their history there.
  const unknown = image.names.filter((name) => !image.namesHistory.includes(name));
  const raw: JsonObject = { ...state.images.raw(image.id), ...namesJson(names, [...unknown, ...image.namesHistory]) };
  state.images.put(raw, state.files.images);
}
