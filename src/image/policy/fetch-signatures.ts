import type { Digest } from '../../base/ids.ts';
import type { Endpoints } from '../registry/endpoints.ts';
import type { Place } from '../registry/places.ts';
import { fetchAttachments } from './attachments.ts';
import { fetchLookaside } from './lookaside.ts';
import { findSignaturePlaces } from './registries-d.ts';
import type { RegistriesD } from './registries-d.ts';
import type { ImageSignature, SignaturesByDigest } from './stored-signatures.ts';

/** A manifest, and where it was found. */
export interface SignedManifest {
  readonly digest: Digest;
  /** The place that had it first. */
  readonly places: readonly Place[];
}

interface Source {
  readonly config: RegistriesD;
  readonly endpoints: Endpoints;
  readonly signal: AbortSignal;
}

/**
 * Signatures of a manifest; those of the lists that name it do not count. registries.d is asked about the place that had the
 * manifest, by the name it has there (a mirror's own), as the other container tools do; where that has none, about the others.
 */
export async function fetchSignatures(image: SignedManifest, source: Source): Promise<SignaturesByDigest> {
  return new Map([[image.digest, await fetchOf(image, source)]]);
}

async function fetchOf({ digest, places }: SignedManifest, source: Source): Promise<readonly ImageSignature[]> {
  const attached = places.filter(
    (place) => findSignaturePlaces(source.config, place.source.reference).useSigstoreAttachments,
  );
  const [kept, found] = await Promise.all([
    keptOf(digest, places, source),
    attached.length === 0 ? [] : fetchAttachments(digest, attached, source.signal),
  ]);
  return [...kept, ...found];
}

async function keptOf(
  digest: Digest,
  places: readonly Place[],
  { config, endpoints, signal }: Source,
): Promise<readonly Buffer[]> {
  const asked = new Set<string>();
  for (const place of places) {
    const { reference } = place.source;
    const { lookaside } = findSignaturePlaces(config, reference);
    const key = `${lookaside} ${reference.path}`;
    if (asked.has(key)) continue;
    asked.add(key);
    const signatures = await fetchLookaside(lookaside, { reference, digest }, { endpoints, signal });
    if (signatures.length > 0) return signatures;
  }
  return [];
}
