import { open } from 'node:fs/promises';
import type { Call } from '../../base/call.ts';
import { CrioError } from '../../base/errors.ts';
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
  await using file = await open(blob.path);
  // An additional store is not checked at a pull.
  const { size } = await file.stat();
  if (size > maxBytes) throw new CrioError('resource-exhausted', `larger than ${maxBytes} bytes`);
  return file.readFile('utf8');
}
