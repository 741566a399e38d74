import { mkdir, readFile, readdir, rename } from 'node:fs/promises';
import { hasCode } from '../base/errors.ts';
import { isId } from '../base/ids.ts';
import { RENAME_EXCHANGE, renameat2 } from '../sys/file.ts';
import { atomicWrite, syncPath } from './index/atomic-write.ts';
import type { ImageFacts } from './index/image-record.ts';
import { putRecord } from './image-names.ts';
import { removeTree } from './remove-tree.ts';
import type { ImageRecord } from './store.ts';
import type { StoreState, Transaction } from './store-state.ts';

/**
 * An image that is pulled again gets new data beside or in place of what it has, and a new record: several files, which do
 * not change in one step. So data and facts are complete in a folder of their own first, durable; from then on the
 * next start finishes what is cut short.
 */
const prefix = '.crio-update-';
const factsFile = 'crio-facts.json';

interface UpdateFacts extends ImageFacts {
  /** What the image had when the update was prepared: one that it has no more was taken away since. */
  readonly namesBefore: readonly string[];
}

/** `folder`: with the data of images. */
export function updateFolder(folder: string, imageId: string): string {
  return `${folder}/${prefix}${imageId}`;
}

/**
 * `staged`: a folder with the data, synced. It is the update's from here on; the caller removes what is left under its name.
 * What is left of an update that failed may be in place by half: only a whole one may take its place, in one step.
 */
export async function prepareUpdate(state: StoreState, facts: ImageFacts, staged: string): Promise<void> {
  const images = state.imageFolder(facts.id);
  const folder = updateFolder(images, facts.id);
  const namesBefore = state.images.get(facts.id)?.names ?? [];
  const { createdNs: _, ...written } = { ...facts, namesBefore };
  await atomicWrite(`${staged}/${factsFile}`, Buffer.from(JSON.stringify(written)), { durable: true });
  try {
    renameat2(undefined, staged, undefined, folder, RENAME_EXCHANGE);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    await rename(staged, folder);
  }
  await syncPath(images);
}

/** Puts data in place and the record into memory. What is in place already is not in the folder any more. */
export async function applyUpdate(state: StoreState, facts: ImageFacts): Promise<ImageRecord> {
  const images = state.imageFolder(facts.id);
  const from = updateFolder(images, facts.id);
  const to = `${images}/${facts.id}`;
  await mkdir(to, { recursive: true, mode: 0o700 });
  for (const name of await readdir(from)) if (name !== factsFile) await rename(`${from}/${name}`, `${to}/${name}`);
  await syncPath(to);
  state.step('image data in place');
  return putRecord(state, facts);
}

/** All locks are held, and every record could be read. */
export async function finishUpdates(state: StoreState, transaction: Transaction): Promise<void> {
  for (const folder of state.paths.imageFolders) await finishIn(folder, state, transaction);
}

async function finishIn(folder: string, state: StoreState, transaction: Transaction): Promise<void> {
  for (const name of await readdir(folder)) {
    const id = name.startsWith(prefix) ? name.slice(prefix.length) : '';
    if (!isId(id)) continue;
    const facts = await readFacts(folder, id);
    const image = state.imageFolder(id) === folder ? state.images.get(id) : undefined;
    // Removed meanwhile, or another one: by podman, say.
    if (facts !== undefined && image !== undefined && image.topLayer === facts.topLayer) {
      state.log.warn(`image "${id}" was being stored again: finished`);
      await applyUpdate(state, { ...facts, addNames: namesToAdd(state, facts) });
      await transaction.save();
    }
    await removeTree(updateFolder(folder, id));
  }
}

/** Without those that were taken away or given to another image since: the update was never said to be done. */
function namesToAdd(state: StoreState, { id, addNames, namesBefore }: UpdateFacts): readonly string[] {
  return addNames.filter((name) => {
    const owner = state.images.getByName(name)?.id;
    return owner === undefined ? !namesBefore.includes(name) : owner === id;
  });
}

/** Written by this program, in a folder that only root can change. */
async function readFacts(folder: string, id: string): Promise<UpdateFacts | undefined> {
  const path = `${updateFolder(folder, id)}/${factsFile}`;
  try {
    // The time is not used for an image that has a record.
    const facts: UpdateFacts = { namesBefore: [], ...JSON.parse(await readFile(path, 'utf8')), createdNs: 0n };
    return facts.id === id ? facts : undefined;
  } catch (error) {
    // The folder is removed in any order of its files.
    if (!hasCode(error, 'ENOENT') && !(error instanceof SyntaxError)) throw error;
    return undefined;
  }
}
