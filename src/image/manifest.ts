import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import { foldKey, JsonReader, parseStrictJson } from './json.ts';
import type { Json } from './json.ts';
import type { Platform } from './platform.ts';
import { mediaTypes } from './media-types.ts';
import { parseDigest } from './reference.ts';
import { readSchema1 } from './schema1.ts';
import type { Schema1Manifest } from './schema1.ts';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** bytes */
  readonly size: number;
  readonly annotations: ReadonlyMap<string, string>;
}

export interface ImageManifest {
  readonly kind: 'image';
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations: ReadonlyMap<string, string>;
}

export interface IndexManifest {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly entries: readonly (Descriptor & { readonly platform: Platform | undefined })[];
}

export interface ArtifactManifest {
  readonly kind: 'artifact';
  readonly mediaType: string;
  readonly artifactType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly annotations: ReadonlyMap<string, string>;
}

export type Manifest = ImageManifest | IndexManifest | ArtifactManifest | Schema1Manifest;

const maxLayers = 500;
const maxEntries = 5000;
const maxDescriptorSize = 2 ** 50;

/** Keys that belong to other kinds: a document that has both could be read as either (CVE-2021-41190). */
const foreignKeys = {
  index: ['config', 'layers', 'fslayers', 'history', 'signatures'],
  image: ['manifests', 'fslayers', 'history', 'signatures'],
};

/**
 * Reads a manifest. `contentType` is what the registry called it; the document's own `mediaType` must agree with it,
 * and the structure with both. Throws `invalid`.
 */
export function parseManifest(data: Uint8Array, contentType: string): Manifest {
  const json = parseStrictJson(data, 'manifest');
  const reader = new JsonReader(json, 'manifest');
  const mediaType = decideMediaType(reader, contentType);
  switch (mediaType) {
    case mediaTypes.ociIndex:
    case mediaTypes.dockerList:
      return readIndex(reader, mediaType);
    case mediaTypes.ociManifest:
    case mediaTypes.dockerManifest:
      return readImage(reader, mediaType);
    case mediaTypes.dockerSchema1:
    case mediaTypes.dockerSchema1Signed:
      return readSchema1(reader, mediaType);
    default:
      throw new CrioError('invalid', `read manifest: unsupported media type ${JSON.stringify(mediaType)}`);
  }
}

/** The media type of stored manifest bytes, which come without a Content-Type. */
export function parseStoredManifest(data: Uint8Array): Manifest {
  return parseManifest(data, '');
}

function decideMediaType(reader: JsonReader, contentType: string): string {
  if (reader.integer('schemaVersion') === 1) return mediaTypes.dockerSchema1;
  if (reader.integer('schemaVersion') !== 2) throw new CrioError('invalid', 'manifest.schemaVersion: expected 2');
  const header = contentType.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  const own = reader.string('mediaType') ?? '';
  const known: readonly string[] = Object.values(mediaTypes);
  if (known.includes(header) && own !== '' && own !== header) {
    throw new CrioError(
      'invalid',
      `read manifest: media type is ${JSON.stringify(own)} in the document, but ${JSON.stringify(header)} in the answer`,
    );
  }
  if (known.includes(header)) return header;
  if (own !== '') return own;
  if (header !== '' && !isGenericType(header)) return header;
  return reader.has('manifests') ? mediaTypes.ociIndex : mediaTypes.ociManifest;
}

/** Types that say nothing, as registries on plain file servers send them. */
function isGenericType(type: string): boolean {
  return type === 'text/plain' || type === 'application/json' || type === 'application/octet-stream';
}

function readIndex(reader: JsonReader, mediaType: string): IndexManifest {
  refuseKeys(reader, foreignKeys.index);
  const items = reader.array('manifests');
  if (items.length > maxEntries) throw new CrioError('invalid', `manifest.manifests: more than ${maxEntries} entries`);
  const entries = items.map((item, index) => {
    const path = `manifest.manifests[${index}]`;
    return { ...readDescriptor(item, path), platform: readPlatform(new JsonReader(item, path).object('platform')) };
  });
  return { kind: 'index', mediaType, entries };
}

function readImage(reader: JsonReader, mediaType: string): ImageManifest | ArtifactManifest {
  refuseKeys(reader, foreignKeys.image);
  const config = readDescriptor(reader.raw('config'), 'manifest.config');
  const items = reader.array('layers');
  if (items.length > maxLayers) throw new CrioError('invalid', `manifest.layers: more than ${maxLayers} layers`);
  const layers = items.map((item, index) => readDescriptor(item, `manifest.layers[${index}]`));
  const annotations = reader.stringMap('annotations');
  if (isImageConfig(config, mediaType)) {
    return { kind: 'image', mediaType, config, layers, annotations };
  }
  const artifactType = reader.string('artifactType') ?? config.mediaType;
  return { kind: 'artifact', mediaType, artifactType, config, layers, annotations };
}

/** In Docker manifests also what old registries wrote there; Docker and podman take it, too. */
const dockerConfigTypes: readonly string[] = [
  mediaTypes.dockerConfig,
  mediaTypes.ociConfig,
  'application/octet-stream',
  'application/json',
  'text/html',
  '',
];

function isImageConfig(config: Descriptor, manifestType: string): boolean {
  if (manifestType === mediaTypes.dockerManifest) return dockerConfigTypes.includes(config.mediaType);
  return config.mediaType === mediaTypes.ociConfig || config.mediaType === mediaTypes.dockerConfig;
}

function readDescriptor(value: Json | undefined, path: string): Descriptor {
  const reader = new JsonReader(value, path);
  const digest = reader.string('digest');
  const size = reader.integer('size');
  if (digest === undefined) throw new CrioError('invalid', `${path}.digest: missing`);
  if (size === undefined || size < 0 || size > maxDescriptorSize) {
    throw new CrioError('invalid', `${path}.size: expected a number of bytes`);
  }
  return {
    mediaType: reader.string('mediaType') ?? '',
    digest: parseDigest(digest),
    size,
    annotations: reader.stringMap('annotations'),
  };
}

function readPlatform(reader: JsonReader | undefined): Platform | undefined {
  if (reader === undefined) return undefined;
  return {
    os: reader.string('os') ?? '',
    architecture: reader.string('architecture') ?? '',
    variant: reader.string('variant') ?? '',
  };
}

function refuseKeys(reader: JsonReader, forbidden: readonly string[]): void {
  const found = reader.keys.find((key) => forbidden.includes(foldKey(key)));
  if (found !== undefined) {
    throw new CrioError(
      'invalid',
      `read manifest: ambiguous, it has the key ${JSON.stringify(found)} of another format`,
    );
  }
}
