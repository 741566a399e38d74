import { stat } from 'node:fs/promises';
import { hasCode } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import { readBounded } from '../../base/read-bounded.ts';
import { JsonReader, parseLooseJson, toPlain } from '../json.ts';
import type { Json } from '../json.ts';
import { mediaTypes } from '../media-types.ts';

/** The annotation that holds a manifest's name in an index, OCI image layout. */
const nameKey = 'org.opencontainers.image.ref.name';
const maxBytes = 16 * 1024 * 1024;

export interface IndexEntry {
  readonly digest: Digest;
  /** Complete reference; empty when it has none. */
  readonly name: string;
  /** The descriptor as it stands in the index. */
  readonly json: Json;
}

export interface ArtifactIndex {
  readonly entries: readonly IndexEntry[];
  /** Descriptors that are no artifacts, such as lists. They stay, and nobody knows which blobs they need. */
  readonly others: readonly Json[];
}

export const emptyIndex: ArtifactIndex = { entries: [], others: [] };

export function namedEntry(
  name: string,
  { digest, size, mediaType }: { readonly digest: Digest; readonly size: number; readonly mediaType: string },
): IndexEntry {
  const json: Json = new Map<string, Json>([
    ['mediaType', mediaType],
    ['digest', digest],
    ['size', size],
    ['annotations', new Map([[nameKey, name]])],
  ]);
  return { digest, name, json };
}

export async function readIndex(path: string): Promise<ArtifactIndex> {
  const reader = new JsonReader(parseLooseJson(await readBounded(path, maxBytes), 'artifact index'), 'artifact index');
  const entries: IndexEntry[] = [];
  const others: Json[] = [];
  for (const [position, json] of reader.array('manifests').entries()) {
    const entry = new JsonReader(json, `artifact index.manifests[${position}]`);
    const digest = entry.string('digest') ?? '';
    // A digest becomes a path.
    const isArtifact = /^sha(?:256|384|512):[a-f0-9]{64,128}$/.test(digest);
    if (isArtifact && entry.string('mediaType') !== mediaTypes.ociIndex)
      entries.push({ digest, name: entry.stringMap('annotations').get(nameKey) ?? '', json });
    else others.push(json);
  }
  return { entries, others };
}

export function encodeIndex({ entries, others }: ArtifactIndex): Buffer {
  const manifests = [...entries.map(({ json }) => toPlain(json)), ...others.map(toPlain)];
  return Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }));
}

/** Changes with every rename over the file; empty when there is none. */
export async function versionOf(path: string): Promise<string> {
  try {
    const { ino, mtimeNs, size } = await stat(path, { bigint: true });
    return `${ino} ${mtimeNs} ${size}`;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}
