import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { verifyLayer } from '../../src/storage/damage/verify-layer.ts';
import { bigDataFile } from '../../src/storage/index/big-data-name.ts';
import { waitFor } from '../client/pods.ts';

/** What is read of the index files; everything else in a record does not matter here. */
interface LayerEntry {
  readonly id: string;
  readonly parent?: string;
  readonly 'diff-digest'?: string;
  readonly flags?: { readonly incomplete?: boolean };
}
interface ImageEntry {
  readonly id: string;
  readonly names?: readonly string[];
  readonly layer?: string;
  readonly 'big-data-names'?: readonly string[];
  readonly 'big-data-digests'?: Readonly<Record<string, string>>;
}

/**
 * What is wrong with the images that the index files of a store name, read as they lie on the disk, without opening the
 * store: every item of data by its digest, every layer by its place in the chain, its names, and the digest of the archive
 * put together again from its files. Empty when all are complete, byte for byte.
 */
export async function imageFaults(graphRoot: string): Promise<readonly string[]> {
  const faults: string[] = [];
  let images: readonly ImageEntry[];
  let layers: ReadonlyMap<string, LayerEntry>;
  try {
    images = readIndex<ImageEntry>(`${graphRoot}/overlay-images/images.json`);
    layers = new Map(
      readIndex<LayerEntry>(`${graphRoot}/overlay-layers/layers.json`).map((layer) => [layer.id, layer]),
    );
  } catch (error) {
    return [`an index cannot be read: ${String(error)}`];
  }
  for (const image of images) {
    const add = (text: string) => faults.push(`image ${image.names?.join(' ') ?? image.id}: ${text}`);
    for (const text of [...dataFaults(graphRoot, image), ...(await chainFaults(graphRoot, image, layers))]) add(text);
  }
  return faults;
}

export function listedImages(graphRoot: string): readonly string[] {
  return readIndex<ImageEntry>(`${graphRoot}/overlay-images/images.json`).flatMap(({ names }) => names ?? []);
}

/** The test only reads what the daemon or the format's own programs wrote. */
function readIndex<T>(path: string): readonly T[] {
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  return text === '' ? [] : (JSON.parse(text) as readonly T[]); // checked where it is used
}

function dataFaults(graphRoot: string, image: ImageEntry): string[] {
  const faults: string[] = [];
  for (const key of image['big-data-names'] ?? []) {
    const path = `${graphRoot}/overlay-images/${image.id}/${bigDataFile(key)}`;
    if (!existsSync(path)) faults.push(`"${key}" is missing`);
    else if (digestOf(readFileSync(path)) !== image['big-data-digests']?.[key])
      faults.push(`"${key}" has another digest`);
  }
  return faults;
}

async function chainFaults(
  graphRoot: string,
  image: ImageEntry,
  layers: ReadonlyMap<string, LayerEntry>,
): Promise<string[]> {
  const faults: string[] = [];
  const diffDigests: string[] = [];
  for (let id = image.layer; id !== undefined;) {
    const layer = layers.get(id);
    if (layer === undefined || layer.flags?.incomplete === true) {
      faults.push(`layer ${id} ${layer === undefined ? 'has no record' : 'is incomplete'}`);
      return faults;
    }
    diffDigests.unshift(layer['diff-digest'] ?? '');
    faults.push(...namesFaults(graphRoot, layer), ...(await contentFaults(graphRoot, layer)));
    id = layer.parent;
  }
  const config = `${graphRoot}/overlay-images/${image.id}/${bigDataFile(`sha256:${image.id}`)}`;
  const wanted: unknown = existsSync(config) ? readDiffIds(config) : undefined;
  if (JSON.stringify(wanted) !== JSON.stringify(diffDigests)) faults.push('its layers are not those of its config');
  return faults;
}

function readDiffIds(config: string): unknown {
  try {
    return JSON.parse(readFileSync(config, 'utf8')).rootfs.diff_ids;
  } catch {
    return undefined;
  }
}

async function contentFaults(graphRoot: string, { id, ...layer }: LayerEntry): Promise<string[]> {
  const fault = await verifyLayer({
    diffFolder: `${graphRoot}/overlay/${id}/diff`,
    tarSplit: `${graphRoot}/overlay-layers/${id}.tar-split.gz`,
    diffDigest: layer['diff-digest'] ?? '',
    hasWhiteouts: true,
  });
  return fault === undefined ? [] : [`layer ${id}: ${fault.reason}`];
}

function namesFaults(graphRoot: string, { id, parent }: LayerEntry): string[] {
  const home = `${graphRoot}/overlay`;
  const text = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');
  const link = text(`${home}/${id}/link`);
  const parts: string[] = [];
  if (!/^[A-Z2-7]{26}$/.test(link)) parts.push(`layer ${id}: its short name is "${link}"`);
  else if (!existsSync(`${home}/l/${link}`) || readlinkSync(`${home}/l/${link}`) !== `../${id}/diff`)
    parts.push(`layer ${id}: its short name leads elsewhere`);
  if (parent === undefined) return parts;
  const above = text(`${home}/${parent}/lower`);
  const lower = `l/${text(`${home}/${parent}/link`)}${above === '' ? '' : `:${above}`}`;
  if (text(`${home}/${id}/lower`) !== lower) parts.push(`layer ${id}: its lowers are not those of its parent`);
  return parts;
}

function digestOf(data: Buffer): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}

/** Waits until what is deleted in the background is gone; then nothing may be there that is of no image. */
export async function assertNoLeftovers(graphRoot: string): Promise<void> {
  const isClean = () => (leftovers(graphRoot).length === 0 ? true : undefined);
  await waitFor('an end of the clean-up', 10_000, isClean).catch(() => assert.deepEqual(leftovers(graphRoot), []));
}

/** Image layers that are in the chain of no image and of no container. Nobody would ever delete them. */
function unreferencedLayers(graphRoot: string): readonly string[] {
  const layers = readIndex<LayerEntry>(`${graphRoot}/overlay-layers/layers.json`);
  const volatile = readIndex<LayerEntry>(`${graphRoot}/overlay-layers/volatile-layers.json`);
  const images = readIndex<ImageEntry>(`${graphRoot}/overlay-images/images.json`);
  const parents = new Map(layers.map(({ id, parent }) => [id, parent]));
  const used = new Set<string>();
  for (const top of [...images.map(({ layer }) => layer), ...volatile.map(({ parent }) => parent)])
    for (let id = top; id !== undefined; id = parents.get(id)) used.add(id);
  return layers.filter(({ id }) => !used.has(id)).map(({ id }) => `layer ${id} without an image`);
}

/** What is on disk that no index names, work of a process that is gone, and layers without an image. */
export function leftovers(graphRoot: string): readonly string[] {
  const list = (folder: string): string[] =>
    existsSync(`${graphRoot}/${folder}`)
      ? readdirSync(`${graphRoot}/${folder}`).map((name) => `${folder}/${name}`)
      : [];
  const layers = readIndex<LayerEntry>(`${graphRoot}/overlay-layers/layers.json`);
  const volatile = readIndex<LayerEntry>(`${graphRoot}/overlay-layers/volatile-layers.json`);
  const ids = new Set([...layers, ...volatile].map(({ id }) => id));
  const images = new Set(readIndex<ImageEntry>(`${graphRoot}/overlay-images/images.json`).map(({ id }) => id));
  const isOf = (known: ReadonlySet<string>, path: string): boolean => {
    const id = /([a-f0-9]{64})(?:\.tar-split\.gz)?$/.exec(path)?.[1];
    return id === undefined || known.has(id);
  };
  return [
    ...unreferencedLayers(graphRoot),
    ...layers.filter(({ flags }) => flags?.incomplete === true).map(({ id }) => `incomplete layer ${id}`),
    ...list('overlay/tempdirs'),
    ...list('overlay-layers/tmp'),
    ...['overlay-images', 'overlay-layers', 'overlay-containers']
      .flatMap(list)
      .filter((path) => /\/\.(?:tmp|crio)-/.test(path)),
    ...[...list('overlay'), ...list('overlay-layers')].filter((path) => !isOf(ids, path)),
    ...list('overlay-images').filter((path) => !isOf(images, path)),
    ...list('overlay/l').filter((path) => !existsSync(`${graphRoot}/${path}`)),
  ];
}
