import type { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import type { Store } from '../storage/store.ts';
import type { ArtifactCatalog } from './artifacts/artifact-catalog.ts';
import { findRecord, namesWithout } from './find-image.ts';
import type { FoundImage, FoundRecord } from './find-image.ts';
import { formatReference, repositoryOf } from './reference.ts';
import type { Reference } from './reference.ts';

export interface RemovalContext {
  readonly store: Store;
  readonly artifacts: ArtifactCatalog;
  readonly volumeUser: ((imageId: string) => string | undefined) | undefined;
  readonly beforeDelete: ((imageId: string) => Promise<void>) | undefined;
}

/** By a name: that name, and with its last name the image. By an id: all of it. */
export async function removeImage(
  { store, volumeUser, beforeDelete }: Omit<RemovalContext, 'artifacts'>,
  call: Call,
  { id, name }: { readonly id: string; readonly name: Reference | undefined },
): Promise<void> {
  const left = (names: readonly string[]) => (name === undefined ? [] : namesLeft(names, name));
  // A pull may give it another name at any time.
  for (;;) {
    if (name !== undefined && (await store.images.changeNames(id, left))) return;
    requireUnused(volumeUser, id);
    call.throwIfAborted();
    await beforeDelete?.(id);
    if (await store.images.delete(id, left)) return;
  }
}

export async function removeArtifact(
  { artifacts, volumeUser }: RemovalContext,
  { image, name }: FoundImage,
): Promise<void> {
  if (image.digest === undefined) return;
  if (await artifacts.isAdditional(image.id))
    throw new CrioError('failed-precondition', `artifact ${image.id} is in a read-only store`);
  const left = name?.tag === undefined ? [] : image.repoTags.filter((tag) => tag !== formatReference(name));
  if (left.length === 0) requireUnused(volumeUser, image.id);
  await artifacts.own.remove(image.digest, name?.tag === undefined ? undefined : formatReference(name));
}

/** A damaged image is in no list, but can be named to remove it, or to be told what is wrong. */
export async function findDamaged(
  store: Store,
  name: string,
  resolve: (name: string) => readonly Reference[],
): Promise<FoundRecord | undefined> {
  const damaged = await store.images.damaged();
  return damaged.length === 0 ? undefined : findRecord(damaged, name, resolve);
}

/** A name may go while the image keeps another one. */
function requireUnused(volumeUser: RemovalContext['volumeUser'], imageId: string): void {
  const user = volumeUser?.(imageId);
  if (user !== undefined) throw new CrioError('failed-precondition', `the image is in use by ${user}`);
}

/** The names an image keeps. A digest that is no name of its own stands for all names of its repository. */
function namesLeft(names: readonly string[], name: Reference): readonly string[] {
  const left = namesWithout(names, name);
  if (left.length < names.length || name.digest === undefined) return left;
  const repository = repositoryOf(name);
  return names.filter(
    (candidate) => !candidate.startsWith(`${repository}:`) && !candidate.startsWith(`${repository}@`),
  );
}
