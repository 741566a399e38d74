import { CrioError } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import { parseManifest } from '../manifest.ts';
import { bodyLimits } from '../registry/limits.ts';
import { RegistryError } from '../registry/registry-error.ts';
import { askPlaces } from '../registry/places.ts';
import type { Place } from '../registry/places.ts';
import { sigstoreMimeType } from './sigstore.ts';
import type { SigstoreSignature } from './sigstore.ts';

const maxSignatures = 64;
/** Of all signatures of a manifest together: they are held in memory. */
const maxTotalBytes = 4 * bodyLimits.signature;

/** The sigstore signatures attached to a manifest: an image with the tag `sha256-<hex>.sig` in the same repository. */
export async function fetchAttachments(
  digest: Digest,
  places: readonly Place[],
  signal: AbortSignal,
): Promise<readonly SigstoreSignature[]> {
  const tag = `${digest.replace(':', '-')}.sig`;
  let missing = 0;
  const found = await askPlaces(`read signatures ${tag}`, places, signal, async (client) => {
    try {
      return await client.fetchManifest(tag, signal);
    } catch (error) {
      if (error instanceof RegistryError && error.status === 404) missing += 1;
      throw error;
    }
  }).catch((error: unknown) => {
    // A mirror may have the image without its signatures; "none" is true only when every place says so.
    if (missing === places.length) return undefined;
    throw error;
  });
  if (found === undefined) return [];
  const { answer, places: order } = found;
  const manifest = parseManifest(answer.data, answer.contentType);
  if (manifest.kind !== 'image' && manifest.kind !== 'artifact')
    throw new CrioError('invalid', `read signatures ${tag}: not an image`);
  if (manifest.layers.length > maxSignatures)
    throw new CrioError('resource-exhausted', `read signatures ${tag}: more than ${maxSignatures}`);
  const layers = manifest.layers.filter((layer) => layer.mediaType === sigstoreMimeType);
  if (layers.reduce((sum, { size }) => sum + size, 0) > maxTotalBytes)
    throw new CrioError('resource-exhausted', `read signatures ${tag}: more than ${maxTotalBytes} bytes`);
  return Promise.all(
    layers.map(async (layer) => {
      const fetched = await askPlaces(`read signature ${layer.digest}`, order, signal, (client) =>
        client.fetchBlob(layer, bodyLimits.signature, signal),
      );
      return { mimeType: layer.mediaType, payload: fetched.answer, annotations: layer.annotations };
    }),
  );
}
