import { isDeepStrictEqual } from 'node:util';
import { messageOf } from '../../base/errors.ts';
import type { ImageRecord } from '../store.ts';
import type { Trash } from '../trash.ts';
import { BackgroundVerifier } from './background-verifier.ts';
import { contentFault } from './content-fault.ts';
import { deleteOldLayers } from './delete-old-layers.ts';
import { allImages, imageDamage, imageLayers, inspectLayer } from './find-damage.ts';
import type { CheckContext, KnownLayer } from './find-damage.ts';
import { layerVersion } from './layer-version.ts';
import type { ImageDamage, Quarantine } from './quarantine.ts';

export interface WalkOptions extends CheckContext {
  readonly quarantine: Quarantine;
  readonly trash: Trash;
}

/** A layer that was found damaged. */
interface Finding {
  readonly layer: KnownLayer;
  readonly reason: string;
  /** From before it was looked at */
  readonly version: string | undefined;
}

/** First what costs little, for every layer, then the contents. Each damaged image is marked as soon as it is known. */
export async function walkStore(
  options: WalkOptions,
  request: { readonly contents: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const { log } = options.state;
  const { contents, signal } = request;
  try {
    const findings: Finding[] = [];
    for (const layer of await imageLayers(options)) {
      if (signal.aborted) return;
      const version = await layerVersion(options, layer.record.id);
      const reason = await inspectLayer(options, layer);
      if (reason !== undefined) findings.push({ layer, reason, version });
    }
    await markImages(options, findings, signal);
    if (!contents) return;
    await deleteOldLayers(options);
    await walkContents(options, new Set(findings.map(({ layer }) => layer.record.id)), signal);
  } catch (error) {
    if (!signal.aborted) log.warn('look for damage in the storage', error);
  }
}

async function walkContents(options: WalkOptions, faulty: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
  const { log } = options.state;
  await using verifier = new BackgroundVerifier();
  for (const layer of await imageLayers(options)) {
    const { id } = layer.record;
    if (faulty.has(id)) continue;
    const version = await layerVersion(options, id);
    const fault = await contentFault(options, layer, (task) => verifier.verify(task, signal)).catch(
      (error: unknown) => {
        signal.throwIfAborted();
        log.warn(`look at layer "${id}"`, error);
        return undefined;
      },
    );
    if (fault === undefined) continue;
    if (fault.canRun) log.warn(`layer "${id}": ${fault.reason}`);
    else await markImages(options, [{ layer, reason: fault.reason, version }], signal);
  }
  log.info('looked at the contents of all images');
}

async function markImages(options: WalkOptions, findings: readonly Finding[], signal: AbortSignal): Promise<void> {
  const { state } = options;
  for (const { image, isReadOnly } of await allImages(options)) {
    if (signal.aborted) return;
    const damage = await damageOf(options, image, findings);
    if (damage === undefined || isDeepStrictEqual(damage, options.quarantine.damageOf(image.id))) continue;
    try {
      await state.transact(() => markImage(options, { image, isReadOnly }, findings), { alone: true });
    } catch (error) {
      state.log.warn(`mark image "${image.id}": ${messageOf(error)}`);
    }
  }
}

/** All locks are held: no pull brings a layer or an image back while it is looked at once more and marked. */
async function markImage(
  options: WalkOptions,
  { image, isReadOnly }: { readonly image: ImageRecord; readonly isReadOnly: boolean },
  findings: readonly Finding[],
): Promise<void> {
  const now = isReadOnly ? image : options.state.images.get(image.id);
  if (now === undefined) return;
  const left: Finding[] = [];
  for (const finding of findings) if (await isStillThere(options, finding)) left.push(finding);
  const damage = await damageOf(options, now, left);
  if (damage !== undefined) await options.quarantine.add(now, damage, { isReadOnly });
}

/** What was put in its place meanwhile was looked at when it was unpacked. */
async function isStillThere(options: WalkOptions, { layer, version }: Finding): Promise<boolean> {
  if (layer.isReadOnly) return (await inspectLayer(options, layer)) !== undefined;
  return version !== undefined && version === (await layerVersion(options, layer.record.id));
}

async function damageOf(
  options: WalkOptions,
  image: ImageRecord,
  findings: readonly Finding[],
): Promise<ImageDamage | undefined> {
  const known = options.quarantine.damageOf(image.id)?.layers ?? [];
  const found = findings.map(({ layer, reason }): [string, string] => [layer.record.id, reason]);
  return imageDamage(options, image, new Map([...known, ...found]));
}
