import type { Image } from './images.ts';
import type { ImageRecord } from '../storage/store.ts';
import { formatReference, repositoryOf } from './reference.ts';
import type { Reference } from './reference.ts';

/** Shorter strings are names, also when they are hexadecimal. */
const minPrefixLength = 3;

/** What is searched. */
export interface ImageIndex {
  byId(id: string): Image | undefined;
  /** The only one whose id starts so. */
  byIdPrefix(prefix: string): Image | undefined;
  byReference(reference: Reference): Image | undefined;
}

export interface FoundImage {
  readonly image: Image;
  /** The name it was found under; undefined when by id. */
  readonly name: Reference | undefined;
}

/**
 * By id, unique id prefix, or name; an id wins over a name. `resolve` gives the complete names a name may stand for, and
 * throws when it is none; a hexadecimal string that is no id is only unknown.
 */
export function findImage(
  index: ImageIndex,
  text: string,
  resolve: (name: string) => readonly Reference[],
): FoundImage | undefined {
  const id = text.startsWith('sha256:') && text.length === 71 ? text.slice('sha256:'.length) : text;
  const isHex = /^[a-f0-9]+$/.test(id) && id.length <= 64;
  if (isHex && id.length >= minPrefixLength) {
    const image = index.byId(id) ?? index.byIdPrefix(id);
    if (image !== undefined) return { image, name: undefined };
  }
  for (const name of candidates(text, isHex, resolve)) {
    const image = index.byReference(name);
    if (image !== undefined) return { image, name };
  }
  return undefined;
}

function candidates(
  text: string,
  isHex: boolean,
  resolve: (name: string) => readonly Reference[],
): readonly Reference[] {
  try {
    return resolve(text);
  } catch (error) {
    if (isHex && text.length >= minPrefixLength) return [];
    throw error;
  }
}

export interface FoundRecord {
  readonly record: ImageRecord;
  readonly name: Reference | undefined;
}

/** The same among records, of images whose data cannot be read. */
export function findRecord(
  records: readonly ImageRecord[],
  text: string,
  resolve: (name: string) => readonly Reference[],
): FoundRecord | undefined {
  const id = text.replace(/^sha256:/, '');
  const byId = records.filter((record) => id.length >= minPrefixLength && record.id.startsWith(id));
  if (byId[0] !== undefined && byId.length === 1) return { record: byId[0], name: undefined };
  for (const name of candidates(text, /^[a-f0-9]+$/.test(id), resolve)) {
    const record = records.find(({ names, digests }) => {
      if (names.includes(formatReference(name))) return true;
      const isOfRepository = names.some((other) => other.startsWith(`${repositoryOf(name)}:`));
      return name.digest !== undefined && isOfRepository && digests.includes(name.digest);
    });
    if (record !== undefined) return { record, name };
  }
  return undefined;
}

/** An index of a few images, as artifacts are. */
export function indexOf(images: readonly Image[]): ImageIndex {
  return {
    byId: (id) => images.find((image) => image.id === id),
    byIdPrefix(prefix) {
      const found = images.filter((image) => image.id.startsWith(prefix));
      return found.length === 1 ? found[0] : undefined;
    },
    byReference(reference) {
      const name = formatReference(reference);
      return images.find((image) => image.repoTags.includes(name) || image.repoDigests.includes(name));
    },
  };
}

/** The names an image keeps when this one is taken from it. */
export function namesWithout(names: readonly string[], name: Reference): readonly string[] {
  const text = formatReference(name);
  return names.filter((candidate) => candidate !== text);
}
