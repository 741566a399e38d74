import type { Call } from '../../base/call.ts';
import { CrioError } from '../../base/errors.ts';
import { readBounded } from '../../base/read-bounded.ts';
import type { Image } from '../images.ts';

/** Of a whole artifact: known profiles have some ten kilobytes. */
const maxBytes = 4 * 1024 * 1024;

/** Pulls an artifact that holds a seccomp profile and returns the profile, its first blob. */
export async function fetchSeccompProfile(
  images: {
    pullArtifact(
      call: Call,
      request: { readonly reference: string; readonly namespace: string; readonly maxBytes: number },
    ): Promise<Image>;
  },
  call: Call,
  request: { readonly reference: string; readonly namespace: string },
): Promise<string> {
  const { artifact } = await images.pullArtifact(call, { ...request, maxBytes });
  const [blob] = artifact?.blobs ?? [];
  if (blob === undefined) throw new CrioError('invalid', 'the artifact has no blob');
  // An additional store is not checked at a pull.
  return (await readBounded(blob.path, maxBytes)).toString();
}
