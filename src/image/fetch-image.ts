import { CrioError } from '../base/errors.ts';
import type { Digest } from '../base/ids.ts';
import { digestOf } from './digest.ts';
import { plainMediaType } from './encryption/encrypted-layer.ts';
import { parseImageConfig } from './image-config.ts';
import type { ImageDocument } from './image-config.ts';
import { parseManifest } from './manifest.ts';
import type { ArtifactManifest, Descriptor, ImageManifest, IndexManifest } from './manifest.ts';
import { choosePlatform, formatPlatform, hostPlatform } from './platform.ts';
import { formatReference } from './reference.ts';
import type { Reference } from './reference.ts';
import type { Schema1Manifest } from './schema1.ts';
import { bodyLimits } from './registry/limits.ts';
import { askPlaces } from './registry/places.ts';
import type { Place } from './registry/places.ts';

type AnyManifest = ImageManifest | ArtifactManifest | Schema1Manifest;

/** The manifest for this machine, and what led to it. */
export interface FetchedManifest<M extends AnyManifest = AnyManifest> {
  readonly manifest: M;
  readonly data: Buffer;
  readonly digest: Digest;
  /** The lists on the way, outermost first. */
  readonly lists: readonly { readonly digest: Digest; readonly data: Buffer }[];
  /** Places to ask for its blobs, best first. */
  readonly places: readonly Place[];
}

const maxNesting = 3;

/** Fetches the manifest, through lists to the entry for this machine. */
export async function fetchManifest(
  reference: Reference,
  places: readonly Place[],
  signal: AbortSignal,
): Promise<FetchedManifest> {
  const lists: { digest: Digest; data: Buffer }[] = [];
  let tagOrDigest = reference.digest ?? reference.tag ?? 'latest';
  let order = places;
  for (;;) {
    const wanted = tagOrDigest;
    // A mirror may answer with something else than a manifest: then the next place is asked.
    const { answer, places: next } = await askPlaces(`read manifest ${wanted}`, order, signal, async (client) => {
      const fetched = await client.fetchManifest(wanted, signal);
      return { ...fetched, manifest: parseManifest(fetched.data, fetched.contentType) };
    });
    order = next;
    const { manifest, data, digest } = answer;
    if (manifest.kind !== 'index') return { manifest, data, digest, lists, places: order };
    if (lists.length === maxNesting)
      throw new CrioError('invalid', `read manifest ${wanted}: lists nested deeper than ${maxNesting}`);
    lists.push({ digest, data });
    tagOrDigest = chooseEntry(manifest, reference);
  }
}

/** The image's config, checked against the manifest. `read` gives it when it is stored already. */
export async function fetchConfig(
  image: FetchedManifest<ImageManifest>,
  read: () => Promise<Buffer | undefined>,
  signal: AbortSignal,
): Promise<{ readonly data: Buffer; readonly document: ImageDocument }> {
  const { config, layers } = image.manifest;
  const data =
    checked(await read(), config.digest) ??
    (
      await askPlaces(`read config ${config.digest}`, image.places, signal, (client) =>
        client.fetchBlob(config, bodyLimits.config, signal),
      )
    ).answer;
  const document = parseImageConfig(data);
  if (document.diffIds.length !== layers.length) {
    throw new CrioError(
      'invalid',
      `image config names ${document.diffIds.length} layers, but the manifest has ${layers.length}`,
    );
  }
  for (const layer of layers) checkLayerType(layer);
  return { data, document };
}

/** What lies in the store may be damaged: then it is fetched again. */
function checked(data: Buffer | undefined, digest: Digest): Buffer | undefined {
  return data !== undefined && digestOf(data) === digest ? data : undefined;
}

/** The entry for this machine, else the first that does not say for which it is: an image or another list. */
function chooseEntry(index: IndexManifest, reference: Reference): Digest {
  const entry = choosePlatform(index.entries) ?? index.entries.find(({ platform }) => platform === undefined);
  if (entry !== undefined) return entry.digest;
  const available = index.entries.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]));
  throw new CrioError(
    'not-found',
    `no image found in the list of ${formatReference(reference)} for ${formatPlatform(hostPlatform)}, there are: ${[...new Set(available)].slice(0, 20).join(', ') || 'none'}`,
  );
}

const layerTypes = [
  /^application\/vnd\.oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+gzip|\+zstd)?$/,
  /^application\/vnd\.docker\.image\.rootfs\.(?:diff|foreign\.diff)\.tar(?:\.gzip|\.zstd)?$/,
];

function checkLayerType(layer: Descriptor): void {
  if (layerTypes.some((type) => type.test(plainMediaType(layer)))) return;
  throw new CrioError(
    'invalid',
    `layer ${layer.digest} has the unsupported media type ${JSON.stringify(layer.mediaType)}`,
  );
}
