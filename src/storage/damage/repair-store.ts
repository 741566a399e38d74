import { CrioError } from '../../base/errors.ts';
import { deleteLayers, layersOfNobody } from '../delete-layers.ts';
import type { ContainerStore, StoreDamage } from '../store.ts';
import type { StoreState } from '../store-state.ts';
import type { Trash } from '../trash.ts';
import { containerDamage, imageDamage, otherTops } from './find-damage.ts';
import type { CheckContext } from './find-damage.ts';
import { layerVersion } from './layer-version.ts';

export interface RepairOptions extends CheckContext {
  readonly containers: ContainerStore;
  readonly trash: Trash;
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
): Promise<void> {
  const { state, driver, containers, images, trash } = options;
  if (repairsContainers) {
    for (const id of damage.containers.keys()) await containers.delete(id, () => isContainerStillDamaged(options, id));
  }
  for (const id of damage.images.keys())
    await images.delete(id, undefined, () => isImageStillDamaged(options, damage, id));
  // Layers of no image: an image takes its own along.
  await state.transact(
    async (transaction) => {
      const wanted = await unchangedLayers(options, damage);
      const unused = layersOfNobody(state, await otherTops(options), ({ id }) => wanted.has(id));
      const kept = [...wanted].find(([id, reason]) => reason !== nothingUsesIt && !unused.includes(id));
      if (kept !== undefined) throw inUse(state, kept[0]);
      await trash.use((folder) => deleteLayers({ state, driver, trash: folder, transaction }, unused));
    },
    { alone: true },
  );
}

async function isContainerStillDamaged(options: RepairOptions, id: string): Promise<boolean> {
  const container = options.state.containers.get(id);
  return container !== undefined && (await containerDamage(options, container)) !== undefined;
}

async function isImageStillDamaged(options: RepairOptions, damage: StoreDamage, imageId: string): Promise<boolean> {
  const image = options.state.images.get(imageId);
  if (image === undefined) return false;
  const faults = new Map([...(await unchangedLayers(options, damage)), ...damage.readOnlyLayers]);
  return (await imageDamage(options, image, faults)) !== undefined;
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
