import type { Digest } from '../../base/ids.ts';
import type { ArtifactBlob, Image, ImageConfig } from '../images.ts';
import type { ArtifactManifest, Descriptor } from '../manifest.ts';
import { formatReference, parseReference, repositoryOf } from '../reference.ts';
import type { Reference } from '../reference.ts';

/** Annotations that name a blob's file, OCI image spec and the model specification. */
const titleKeys = ['org.opencontainers.image.title', 'org.cncf.model.filepath'];

const emptyConfig: ImageConfig = {
  user: '',
  env: [],
  entrypoint: [],
  cmd: [],
  workingDir: '',
  labels: new Map(),
  stopSignal: '',
  volumes: [],
  architecture: '',
  os: '',
  document: undefined,
};

/** An artifact as lists and statuses show it: its id is its manifest's digest. */
export function toImage(
  digest: Digest,
  names: readonly string[],
  manifest: Pick<ArtifactManifest, 'artifactType' | 'config' | 'layers' | 'annotations'>,
  blobPath: (digest: Digest) => string,
): Image {
  const references = names.flatMap(readName);
  const repositories = references.map(repositoryOf);
  return {
    id: digest.slice(digest.indexOf(':') + 1),
    repoTags: references
      .filter(({ tag }) => tag !== undefined)
      .map(formatReference)
      .toSorted(),
    // CRI-O's word for an artifact without a complete name.
    repoDigests: (repositories.length === 0 ? ['unknown'] : [...new Set(repositories)])
      .map((name) => `${name}@${digest}`)
      .toSorted(),
    digest,
    sizeBytes: manifest.layers.reduce((sum, layer) => sum + layer.size, manifest.config.size),
    pinned: false,
    topLayer: undefined,
    config: emptyConfig,
    annotations: manifest.annotations,
    artifact: { artifactType: manifest.artifactType, blobs: manifest.layers.map((layer) => toBlob(layer, blobPath)) },
  };
}

function toBlob(layer: Descriptor, blobPath: (digest: Digest) => string): ArtifactBlob {
  const title = titleKeys
    .map((key) => layer.annotations.get(key))
    .map((text) => (text === undefined ? undefined : pathBelow(text)))
    .find((text) => text !== undefined);
  return {
    digest: layer.digest,
    sizeBytes: layer.size,
    path: blobPath(layer.digest),
    title,
    annotations: layer.annotations,
  };
}

/**
 * A title as a path below a mount point, where it must stay: without `.` and empty parts, as in `./a//b`. Undefined for
 * one that is absolute, has a `..`, or is no file name.
 */
export function pathBelow(text: string): string | undefined {
  if (text.length > 4096 || text.startsWith('/') || text.endsWith('/') || text.includes('\0')) return undefined;
  const parts = text.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.length === 0 || parts.some((part) => part === '..' || Buffer.byteLength(part) > 255)) return undefined;
  return parts.join('/');
}

function readName(name: string): readonly Reference[] {
  try {
    return name === '' ? [] : [parseReference(name)];
  } catch {
    return [];
  }
}
