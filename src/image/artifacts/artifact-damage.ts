import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, messageOf } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { Logger } from '../../base/log.ts';
import type { ArtifactStore } from './artifact-store.ts';

const pieceBytes = 1 << 20;

/** Why artifacts do not count as present, or should not, by id. With `contents` each blob is read. Changes nothing. */
export async function artifactDamage(
  store: ArtifactStore,
  request: { readonly contents: boolean; readonly signal: AbortSignal },
): Promise<ReadonlyMap<string, string>> {
  const artifacts = await store.contents();
  const blobs = request.contents ? await damagedBlobs(store, { signal: request.signal, rests: false }) : new Map();
  const damage = new Map<string, string>();
  for (const artifact of artifacts) {
    const digest = artifact.blobs?.find((blob) => blobs.has(blob));
    const reason = artifact.fault ?? (digest === undefined ? undefined : `blob ${digest} ${blobs.get(digest)}`);
    if (reason !== undefined) damage.set(artifact.image.id, reason);
  }
  return damage;
}

/**
 * Reads all blobs, slowly, and takes away those that are damaged. Artifacts that need them do not count as present; their
 * next pull brings what is missing. Files that are gone are noticed, too. Errors are logged.
 */
export async function dropDamagedBlobs(store: ArtifactStore, signal: AbortSignal, log: Logger): Promise<void> {
  try {
    store.forget();
    for (const [digest, reason] of await damagedBlobs(store, { signal, rests: true })) {
      log.warn(`Blob ${digest} of an artifact ${reason}: deleted`);
      await store.dropBlob(digest);
    }
    await store.contents();
  } catch (error) {
    if (!signal.aborted) log.warn('Look for damaged artifacts', error);
  }
}

async function damagedBlobs(
  store: ArtifactStore,
  options: { readonly signal: AbortSignal; readonly rests: boolean },
): Promise<ReadonlyMap<Digest, string>> {
  const digests = new Set((await store.contents()).flatMap(({ blobs }) => blobs ?? []));
  const damaged = new Map<Digest, string>();
  for (const digest of digests) {
    const reason = await blobDamage(store.blobPath(digest), digest, options);
    if (reason !== undefined) damaged.set(digest, reason);
  }
  return damaged;
}

/** One that is not there is no finding of this look: an artifact may lack its config. */
async function blobDamage(
  path: string,
  digest: Digest,
  options: { readonly signal: AbortSignal; readonly rests: boolean },
): Promise<string | undefined> {
  try {
    return (await hashFile(path, digest, options)) === digest ? undefined : 'has another content';
  } catch (error) {
    options.signal.throwIfAborted();
    return hasCode(error, 'ENOENT') ? undefined : `cannot be read: ${messageOf(error)}`;
  }
}

async function hashFile(
  path: string,
  digest: Digest,
  { signal, rests }: { readonly signal: AbortSignal; readonly rests: boolean },
): Promise<Digest> {
  const algorithm = digest.slice(0, digest.indexOf(':'));
  const hash = createHash(algorithm);
  const piece = Buffer.allocUnsafe(pieceBytes);
  await using file = await open(path);
  for (;;) {
    signal.throwIfAborted();
    const begin = performance.now();
    const { bytesRead } = await file.read(piece, 0, pieceBytes, null);
    if (bytesRead === 0) return `${algorithm}:${hash.digest('hex')}`;
    hash.update(piece.subarray(0, bytesRead));
    if (rests) await sleep(performance.now() - begin, undefined, { signal });
  }
}
