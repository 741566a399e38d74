import { formatTimeNs } from '../../base/clock.ts';
import { isId } from '../../base/ids.ts';
import type { Compression } from '../../sys/decompress.ts';
import type { LayerRecord } from '../store.ts';
import { FieldError, integerField, objectField, optionalText, textField, textListField } from './json-fields.ts';
import type { JsonObject } from './json-fields.ts';
import type { Named } from './record-index.ts';

/** A layer as the index has it. */
export interface IndexedLayer extends LayerRecord, Named {
  /** Content not complete: whoever loads with a write lock deletes it. */
  readonly isIncomplete: boolean;
}

/** Numbers of the format's `compression` key. */
export const compressionCode = { none: 0, bzip2: 1, gzip: 2, xz: 3, zstd: 4 } as const satisfies Record<
  Compression,
  number
>;

export function parseLayer(raw: JsonObject): IndexedLayer {
  const id = textField(raw, 'id');
  if (!isId(id)) throw new FieldError(`layer id "${id}" is not valid`);
  const flags = objectField(raw, 'flags');
  return {
    id,
    names: textListField(raw, 'names'),
    parent: optionalText(raw, 'parent'),
    diffDigest: optionalText(raw, 'diff-digest'),
    diffSize: integerField(raw, 'diff-size'),
    compressedDigest: optionalText(raw, 'compressed-diff-digest'),
    compressedSize: integerField(raw, 'compressed-size'),
    isIncomplete: flags['incomplete'] === true,
  };
}

/** Facts about unpacked content. */
export interface LayerContent {
  readonly diffDigest: string;
  readonly diffSize: number;
  readonly compressedDigest: string;
  readonly compressedSize: number;
  readonly compression: Compression;
  /** Sorted */
  readonly uids: readonly number[];
  readonly gids: readonly number[];
}

/** Record of an image layer; empty values are left out as the format wants. */
export function imageLayerJson(
  id: string,
  parent: string | undefined,
  content: LayerContent,
  createdNs: bigint,
): JsonObject {
  const raw: JsonObject = { id };
  if (parent !== undefined) raw['parent'] = parent;
  raw['created'] = formatTimeNs(createdNs);
  raw['compressed-diff-digest'] = content.compressedDigest;
  if (content.compressedSize > 0) raw['compressed-size'] = content.compressedSize;
  raw['diff-digest'] = content.diffDigest;
  if (content.diffSize > 0) raw['diff-size'] = content.diffSize;
  const code = compressionCode[content.compression];
  if (code > 0) raw['compression'] = code;
  if (content.uids.length > 0) raw['uidset'] = content.uids;
  if (content.gids.length > 0) raw['gidset'] = content.gids;
  return raw;
}

export function containerLayerJson(options: {
  id: string;
  name: string;
  parent: string | undefined;
  mountLabel: string;
  createdNs: bigint;
}): JsonObject {
  const raw: JsonObject = { id: options.id };
  if (options.name !== '') raw['names'] = [options.name];
  if (options.parent !== undefined) raw['parent'] = options.parent;
  if (options.mountLabel !== '') raw['mountlabel'] = options.mountLabel;
  raw['created'] = formatTimeNs(options.createdNs);
  return raw;
}

export function withIncomplete(raw: JsonObject, isIncomplete: boolean): JsonObject {
  const flags: JsonObject = { ...objectField(raw, 'flags') };
  delete flags['incomplete'];
  if (isIncomplete) flags['incomplete'] = true;
  const result: JsonObject = { ...raw, flags };
  if (Object.keys(flags).length === 0) delete result['flags'];
  return result;
}
