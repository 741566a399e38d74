import { bigDataFile } from '../index/big-data-name.ts';
import { parseImage } from '../index/image-record.ts';
import type { JsonObject } from '../index/json-fields.ts';
import { readBigData } from '../read-big-data.ts';
import { removeTree } from '../remove-tree.ts';
import type { ImageRecord, NewImage } from '../store.ts';
import type { StoreState, Transaction } from '../store-state.ts';
import { itemDamage } from './find-damage.ts';
import type { Quarantine } from './quarantine.ts';

/**
 * A damaged image was stored again. What it keeps of a pull before, as its manifest under an older digest, no pull brings
 * back: what of it is damaged goes, or the image would be found damaged for ever. All locks are held.
 */
export async function finishHealing(
  context: { readonly state: StoreState; readonly quarantine: Quarantine; readonly transaction: Transaction },
  image: NewImage,
): Promise<ImageRecord | undefined> {
  const { state, quarantine, transaction } = context;
  const { id, digest } = image;
  const raw = state.images.raw(id);
  const isDamaged = (quarantine.damageOf(id)?.data ?? '') !== '';
  const damaged = raw === undefined || !isDamaged ? [] : await damagedKeys(state, parseImage(raw), image);
  if (raw !== undefined && damaged.length > 0) {
    state.log.warn(`image "${id}": data of a pull before is damaged and goes: ${damaged.join(', ')}`);
    state.images.put(withoutData(raw, damaged, digest), state.files.images);
    await transaction.save();
    for (const key of damaged) await removeTree(`${state.imageFolder(id)}/${id}/${bigDataFile(key)}`);
  }
  await quarantine.imageStored(id);
  return state.images.get(id);
}

async function damagedKeys(state: StoreState, record: ImageRecord, image: NewImage): Promise<readonly string[]> {
  const brought = new Set(image.bigData.map(({ key }) => key));
  const damaged: string[] = [];
  for (const key of record.bigDataNames) {
    if (brought.has(key)) continue;
    const reason = await itemDamage(record, key, () =>
      readBigData(`${state.imageFolder(record.id)}/${record.id}`, key),
    );
    if (reason !== undefined) damaged.push(key);
  }
  return damaged;
}

/** `digest`: of the manifest that is there, if that of the record goes. */
function withoutData(raw: JsonObject, keys: readonly string[], digest: string): JsonObject {
  const record = parseImage(raw);
  const kept = <T>(map: ReadonlyMap<string, T>) => Object.fromEntries([...map].filter(([key]) => !keys.includes(key)));
  return {
    ...raw,
    digest: keys.includes(`manifest-${record.digest ?? ''}`) ? digest : record.digest,
    'big-data-names': record.bigDataNames.filter((key) => !keys.includes(key)),
    'big-data-sizes': kept(record.bigDataSizes),
    'big-data-digests': kept(record.bigDataDigests),
  };
}
