import { formatTimeNs, parseTimeNs } from '../../base/clock.ts';
import { isId } from '../../base/ids.ts';
import type { Digest } from '../../base/ids.ts';
import type { ImageRecord, NewImage } from '../store.ts';
import { FieldError, isSize, isText, mapField, optionalText, textField, textListField } from './json-fields.ts';
import type { JsonObject } from './json-fields.ts';

export interface IndexedImage extends ImageRecord {
  /** Copies of the top layer with other id maps, made by other programs. */
  readonly mappedLayers: readonly string[];
}

/** A new image without the data itself. */
export interface ImageFacts extends Omit<NewImage, 'bigData'> {
  readonly bigData: readonly { readonly key: string; readonly size: number; readonly digest: Digest }[];
}

export function factsOf(image: NewImage): ImageFacts {
  return { ...image, bigData: image.bigData.map(({ key, data, digest }) => ({ key, size: data.length, digest })) };
}

const digestForm = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+$/;

export function parseImage(raw: JsonObject): IndexedImage {
  const id = textField(raw, 'id');
  if (!isId(id)) throw new FieldError(`image id "${id}" is not valid`);
  const digest = optionalText(raw, 'digest');
  const bigDataDigests = mapField(raw, 'big-data-digests', isText);
  const digests = new Set<string>();
  if (digest !== undefined) digests.add(digest);
  for (const [key, value] of bigDataDigests) if (key.startsWith('manifest')) digests.add(value);
  for (const value of digests)
    if (!digestForm.test(value)) throw new FieldError(`image digest "${value}" is not valid`);
  return {
    id,
    digest,
    names: textListField(raw, 'names'),
    namesHistory: textListField(raw, 'names-history'),
    topLayer: optionalText(raw, 'layer'),
    mappedLayers: textListField(raw, 'mapped-layers'),
    metadata: textField(raw, 'metadata'),
    bigDataNames: textListField(raw, 'big-data-names'),
    bigDataSizes: mapField(raw, 'big-data-sizes', isSize),
    bigDataDigests,
    createdNs: parseTimeNs(textField(raw, 'created')) ?? 0n,
    digests: [...digests],
  };
}

/** Record of a new image, or of one pulled again: what it had stays, what the pull brings is added or replaced. */
export function imageJson(image: ImageFacts, before: JsonObject | undefined): JsonObject {
  const old = before === undefined ? undefined : parseImage(before);
  const names = [...image.addNames.filter((name) => !old?.names.includes(name)), ...(old?.names ?? [])];
  const keys = new Set([...(old?.bigDataNames ?? []), ...image.bigData.map((item) => item.key)]);
  const sizes = new Map(old?.bigDataSizes);
  const digests = new Map<string, string>(old?.bigDataDigests);
  for (const { key, size, digest } of image.bigData) {
    sizes.set(key, size);
    digests.set(key, digest);
  }
  const raw: JsonObject = { id: image.id, digest: old?.digest ?? image.digest };
  Object.assign(raw, namesJson(names, old?.namesHistory ?? []));
  const layer = old?.topLayer ?? image.topLayer;
  if (layer !== undefined) raw['layer'] = layer;
  if (image.metadata !== '') raw['metadata'] = image.metadata;
  raw['big-data-names'] = [...keys];
  raw['big-data-sizes'] = sorted(sizes);
  raw['big-data-digests'] = sorted(digests);
  raw['created'] = old === undefined ? formatTimeNs(image.createdNs) : before?.['created'];
  return { ...before, ...raw };
}

/** `names` and `names-history` after a change of names; both are absent when empty. */
export function namesJson(names: readonly string[], history: readonly string[]): JsonObject {
  const all = [...history];
  // Each current name in list order is moved to the front, so the current ones end up in reverse order.
  for (const name of names) {
    const at = all.indexOf(name);
    if (at >= 0) all.splice(at, 1);
    all.unshift(name);
  }
  return {
    names: names.length > 0 ? [...new Set(names)] : undefined,
    'names-history': all.length > 0 ? all : undefined,
  };
}

function sorted<T>(map: ReadonlyMap<string, T>): JsonObject {
  const entries = [...map].sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries);
}
