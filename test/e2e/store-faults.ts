import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

interface LayerEntry {
  readonly id: string;
  readonly parent?: string;
  readonly flags?: Readonly<Record<string, unknown>>;
}

interface ImageEntry {
  readonly id: string;
  readonly names?: readonly string[];
  readonly layer?: string;
  readonly 'mapped-layers'?: readonly string[];
  readonly 'big-data-names'?: readonly string[];
}

interface ContainerEntry {
  readonly id: string;
  readonly image: string;
  readonly layer: string;
}

/**
 * Everything that is wrong with a store at rest, one line each, read from the files alone: references that lead nowhere,
 * folders and files that no record has, what interrupted work leaves, mounts and mount counts.
 */
export function storeFaults(graphRoot: string, runRoot: string): readonly string[] {
  const layers = [
    ...read<LayerEntry>(`${graphRoot}/overlay-layers/layers.json`),
    ...read<LayerEntry>(`${graphRoot}/overlay-layers/volatile-layers.json`),
  ];
  const images = read<ImageEntry>(`${graphRoot}/overlay-images/images.json`);
  const containers = [
    ...read<ContainerEntry>(`${graphRoot}/overlay-containers/containers.json`),
    ...read<ContainerEntry>(`${graphRoot}/overlay-containers/volatile-containers.json`),
  ];
  return [
    ...referenceFaults(layers, images, containers),
    ...layerFolderFaults(graphRoot, layers),
    ...images.flatMap((image) => imageFaults(graphRoot, image)),
    ...strangers(`${graphRoot}/overlay-images`, images),
    ...strangers(`${graphRoot}/overlay-containers`, containers),
    ...strangers(`${graphRoot}/overlay-layers`, layers),
    ...leftovers(graphRoot),
    ...mountFaults(graphRoot, runRoot),
  ];
}

function referenceFaults(
  layers: readonly LayerEntry[],
  images: readonly ImageEntry[],
  containers: readonly ContainerEntry[],
): string[] {
  const faults: string[] = [];
  const byId = new Map(layers.map((layer) => [layer.id, layer]));
  if (byId.size !== layers.length) faults.push('two layer records have one id');
  const names = images.flatMap((image) => image.names ?? []);
  if (new Set(names).size !== names.length) faults.push(`two images have one name: ${names.join(' ')}`);
  for (const { id, parent, flags } of layers) {
    if (parent !== undefined && !byId.has(parent)) faults.push(`layer ${id}: its parent ${parent} is not there`);
    if (flags?.['incomplete'] === true) faults.push(`layer ${id} is incomplete`);
  }
  const used = new Set<string>();
  const use = (owner: string, layer: string | undefined) => {
    for (let id = layer; id !== undefined; id = byId.get(id)?.parent) {
      if (!byId.has(id)) faults.push(`${owner}: its layer ${id} is not there`);
      used.add(id);
    }
  };
  for (const image of images)
    for (const layer of [image.layer, ...(image['mapped-layers'] ?? [])]) use(`image ${image.id}`, layer);
  for (const { id, layer, image } of containers) {
    use(`container ${id}`, layer);
    if (image !== '' && !images.some((item) => item.id === image)) faults.push(`container ${id}: no image ${image}`);
  }
  for (const { id } of layers) if (!used.has(id)) faults.push(`layer ${id} belongs to nothing`);
  return faults;
}

function layerFolderFaults(graphRoot: string, layers: readonly LayerEntry[]): string[] {
  const faults: string[] = [];
  const home = `${graphRoot}/overlay`;
  const folders = new Set(list(home).filter(isId));
  const links = new Map(list(`${home}/l`).map((name) => [name, readlinkSync(`${home}/l/${name}`)]));
  for (const { id } of layers) if (!folders.has(id)) faults.push(`layer ${id} has no folder`);
  const known = new Set(layers.map(({ id }) => id));
  for (const id of folders) if (!known.has(id)) faults.push(`layer folder ${id} belongs to no record`);
  for (const id of folders) {
    const link = text(`${home}/${id}/link`).trim();
    if (links.get(link) !== `../${id}/diff`) faults.push(`layer ${id}: its short name "${link}" leads elsewhere`);
    for (const lower of text(`${home}/${id}/lower`).split(':').filter(Boolean))
      if (!links.has(lower.replace(/^l\//, ''))) faults.push(`layer ${id}: no lower ${lower}`);
  }
  for (const [name, target] of links)
    if (!folders.has(/^\.\.\/(\w+)\/diff$/.exec(target)?.[1] ?? '')) faults.push(`short name ${name} of no layer`);
  return faults;
}

/** What podman needs to list, run and push an image. */
function imageFaults(graphRoot: string, image: ImageEntry): string[] {
  const faults: string[] = [];
  const folder = `${graphRoot}/overlay-images/${image.id}`;
  const files = new Set(list(folder));
  const names = image['big-data-names'] ?? [];
  for (const name of names) {
    const file = /^[a-z0-9.]+$/.test(name) ? name : `=${Buffer.from(name).toString('base64')}`;
    if (!files.has(file)) faults.push(`image ${image.id}: its data ${name} is not there`);
  }
  if (!names.includes('manifest')) faults.push(`image ${image.id} has no manifest`);
  if (image.layer !== undefined) {
    const tarSplit = `${graphRoot}/overlay-layers/${image.layer}.tar-split.gz`;
    try {
      gunzipSync(readFileSync(tarSplit));
    } catch (error) {
      faults.push(`image ${image.id}: read "${tarSplit}": ${error instanceof Error ? error.message : ''}`);
    }
  }
  return faults;
}

/** Data of an id that no record has. */
function strangers(folder: string, records: readonly { readonly id: string }[]): string[] {
  const known = new Set(records.map(({ id }) => id));
  return list(folder)
    .filter((name) => isId(name.replace(/\.tar-split\.gz$/, '')) && !known.has(name.replace(/\.tar-split\.gz$/, '')))
    .map((name) => `"${folder}/${name}" belongs to no record`);
}

function leftovers(graphRoot: string): string[] {
  const folders = ['overlay/tempdirs', 'overlay/staging', 'overlay-layers/tmp'].map((name) => `${graphRoot}/${name}`);
  const temporary = ['overlay-layers', 'overlay-images', 'overlay-containers'].flatMap((name) =>
    list(`${graphRoot}/${name}`)
      .filter((file) => file.startsWith('.tmp-') || file.startsWith('quarantine-'))
      .map((file) => `${name}/${file}`),
  );
  return [...folders.flatMap((folder) => list(folder).map((name) => `${folder}/${name}`)), ...temporary].map(
    (path) => `left over: ${path}`,
  );
}

function mountFaults(graphRoot: string, runRoot: string): string[] {
  const counts = read<{ readonly id: string; readonly count: number }>(`${runRoot}/overlay-layers/mountpoints.json`);
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${graphRoot}/overlay/`));
  return [
    ...counts.map(({ id, count }) => `layer ${id} has the mount count ${count}`),
    ...mounts.map((path) => `"${path}" is mounted`),
  ];
}

function read<T>(path: string): readonly T[] {
  const content = text(path);
  // A file of the format; what is missing in it is a fault that the callers find.
  return content === '' ? [] : (JSON.parse(content) as readonly T[]);
}

function text(path: string): string {
  return lstatSync(path, { throwIfNoEntry: false }) === undefined ? '' : readFileSync(path, 'utf8');
}

function list(folder: string): readonly string[] {
  return lstatSync(folder, { throwIfNoEntry: false }) === undefined ? [] : readdirSync(folder);
}

function isId(name: string): boolean {
  return /^[0-9a-f]{64}$/.test(name);
}
