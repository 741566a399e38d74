import { CrioError } from '../../base/errors.ts';
import { deleteLayers, layersOfNobody } from '../delete-layers.ts';
import type { ContainerStore, ImageRecord, RepairedImage, StoreDamage } from '../store.ts';
import type { StoreState } from '../store-state.ts';
import type { Trash } from '../trash.ts';
import { chainOf, containerDamage, imageDamage, otherTops } from './find-damage.ts';
import type { CheckContext } from './find-damage.ts';
import { layerVersion } from './layer-version.ts';
import type { ImageDamage, Quarantine } from './quarantine.ts';

export interface RepairOptions extends CheckContext {
  readonly containers: ContainerStore;
  readonly trash: Trash;
  readonly quarantine: Quarantine;
}

/** Why a layer counts as damage that may be whole. */
export const nothingUsesIt = 'nothing uses it';

/**
 * The check may be minutes old: what was pulled again since, or came into use, stays. All locks are held from the second
 * look to the deletion, as a pull may be mending right now.
 */
export async function repairStore(
  options: RepairOptions,
  damage: StoreDamage,
  repairsContainers: boolean,
): Promise<ReadonlyMap<string, RepairedImage>> {
  const { state, driver, containers, trash } = options;
  if (repairsContainers) {
    for (const id of damage.containers.keys()) await containers.delete(id, () => isContainerStillDamaged(options, id));
  }
  const repaired = new Map<string, RepairedImage>();
  for (const id of damage.images.keys()) {
    const outcome = await repairImage(options, damage, id);
    if (outcome !== undefined) repaired.set(id, outcome);
  }
  // Layers of no image: an image takes its own along.
  await state.transact(
    async (transaction) => {
      const wanted = await unchangedLayers(options, damage);
      const unused = layersOfNobody(state, await otherTops(options), ({ id }) => wanted.has(id));
      const setAside = layersSetAside(options);
      const kept = [...wanted].find(
        ([id, reason]) => reason !== nothingUsesIt && !unused.includes(id) && !setAside.has(id),
      );
      if (kept !== undefined) throw inUse(state, kept[0]);
      await trash.use((folder) => deleteLayers({ state, driver, trash: folder, transaction }, unused));
    },
    { alone: true },
  );
  return repaired;
}

/** What a container uses stays, and is set aside: a pull brings what is damaged below the container. */
async function repairImage(
  options: RepairOptions,
  damage: StoreDamage,
  imageId: string,
): Promise<RepairedImage | undefined> {
  let outcome: RepairedImage | undefined;
  await options.images.delete(imageId, undefined, async () => {
    const image = options.state.images.get(imageId);
    const left = image && (await damageLeft(options, damage, image));
    if (image === undefined || left === undefined) return false;
    const usedBy = options.state.containers.list().find((container) => container.imageId === imageId)?.id;
    outcome = { usedBy };
    if (usedBy !== undefined) await setAside(options, image, left);
    return usedBy === undefined;
  });
  return outcome;
}

async function setAside({ quarantine }: RepairOptions, image: ImageRecord, damage: ImageDamage): Promise<void> {
  // The look was not at all of it, if it was quick.
  const layers = new Map([...(quarantine.damageOf(image.id)?.layers ?? []), ...damage.layers]);
  if (await quarantine.add(image, { ...damage, layers }, { isReadOnly: false })) return;
  throw new CrioError('unavailable', `set image "${image.id}" aside: its mark cannot be written`);
}

/** Damaged layers that every image that has them is set aside for. */
function layersSetAside({ state, quarantine }: RepairOptions): ReadonlySet<string> {
  const [all, others] = [new Set<string>(), new Set<string>()];
  for (const { id: imageId, topLayer } of state.images.list()) {
    const known = quarantine.damageOf(imageId)?.layers;
    for (const { id } of chainOf(state, new Map(), topLayer)) (known?.has(id) === true ? all : others).add(id);
  }
  return all.difference(others);
}

async function isContainerStillDamaged(options: RepairOptions, id: string): Promise<boolean> {
  const container = options.state.containers.get(id);
  return container !== undefined && (await containerDamage(options, container)) !== undefined;
}

async function damageLeft(
  options: RepairOptions,
  damage: StoreDamage,
  image: ImageRecord,
): Promise<ImageDamage | undefined> {
  const faults = new Map([...(await unchangedLayers(options, damage)), ...damage.readOnlyLayers]);
  return imageDamage(options, image, faults);
}

/** Damaged layers of the own store that are the ones that were looked at, with their reasons. */
async function unchangedLayers(options: RepairOptions, damage: StoreDamage): Promise<ReadonlyMap<string, string>> {
  const left = new Map<string, string>();
  for (const [id, reason] of damage.layers) {
    const version = await layerVersion(options, id);
    if (version !== undefined && version === damage.versions.get(id)) left.set(id, reason);
  }
  return left;
}

function inUse(state: StoreState, id: string): CrioError {
  const child = state.layers.list().find((layer) => layer.parent === id);
  const user = child === undefined ? 'an image uses it by now' : `layer "${child.id}" is on top of it`;
  return new CrioError('failed-precondition', `delete damaged layer "${id}": ${user}`);
}
