import { CrioError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { ImageRecord, Store } from '../storage/store.ts';
import type { ImageIndex } from './find-image.ts';
import type { Image } from './images.ts';
import { parseImageConfig } from './image-config.ts';
import type { ImageDocument } from './image-config.ts';
import { parseStoredManifest } from './manifest.ts';
import { formatReference, parseReference, repositoryOf } from './reference.ts';
import type { Reference } from './reference.ts';

/** All images of the store at one moment. */
export class Snapshot implements ImageIndex {
  readonly images: readonly Image[];
  readonly #byId: ReadonlyMap<string, Image>;
  readonly #byName: ReadonlyMap<string, Image>;
  readonly #byRepository: ReadonlyMap<string, readonly Image[]>;

  constructor(entries: readonly CatalogEntry[]) {
    this.images = entries.map((entry) => entry.image);
    this.#byId = new Map(entries.map(({ image }) => [image.id, image]));
    const named = entries.flatMap(({ record, image }) => record.names.map((name) => [name, image] as const));
    // A name of our own wins over the same in an additional store, which comes later.
    this.#byName = new Map(named.toReversed());
    this.#byRepository = Map.groupBy(
      entries.flatMap(({ image, repositories }) => repositories.map((repository) => ({ image, repository }))),
      ({ repository }) => repository,
    )
      .entries()
      .reduce(
        (map, [repository, items]) =>
          map.set(
            repository,
            items.map(({ image }) => image),
          ),
        new Map<string, Image[]>(),
      );
  }

  byId(id: string): Image | undefined {
    return this.#byId.get(id);
  }

  /** The only image whose id starts so. */
  byIdPrefix(prefix: string): Image | undefined {
    const found = this.images.filter((image) => image.id.startsWith(prefix));
    return found.length === 1 ? found[0] : undefined;
  }

  /** A name with a digest is also found through any name of its repository and any manifest of the image. */
  byReference(reference: Reference): Image | undefined {
    const named = this.#byName.get(formatReference(reference));
    if (named !== undefined || reference.digest === undefined) return named;
    const name = `${repositoryOf(reference)}@${reference.digest}`;
    return this.#byRepository.get(repositoryOf(reference))?.find((image) => image.repoDigests.includes(name));
  }
}

interface CatalogEntry {
  readonly record: ImageRecord;
  readonly image: Image;
  readonly repositories: readonly string[];
}

/** What of a record the image is made of: when it is the same, so is the image. */
interface CachedEntry {
  readonly record: ImageRecord;
  readonly key: string;
  /** Undefined for a record that cannot be read. */
  readonly entry: CatalogEntry | undefined;
}

/** Turns records into images. Each is read from disk once, and again only when its record changes. */
export class Catalog {
  readonly #store: Store;
  readonly #log: Logger;
  #isPinned: (names: readonly string[]) => boolean;
  #records: readonly ImageRecord[] | undefined;
  #cache: ReadonlyMap<string, CachedEntry> = new Map();
  #snapshot = new Snapshot([]);
  #loading: Promise<Snapshot> | undefined;

  constructor(options: { store: Store; log: Logger; isPinned: (names: readonly string[]) => boolean }) {
    this.#store = options.store;
    this.#log = options.log;
    this.#isPinned = options.isPinned;
  }

  /** Changes which images are pinned, in everything read from now on. */
  setPins(isPinned: (names: readonly string[]) => boolean): void {
    this.#isPinned = isPinned;
    this.#records = undefined;
    this.#cache = new Map();
  }

  async snapshot(): Promise<Snapshot> {
    const records = await this.#store.images.list();
    if (this.#isCurrent(records)) return this.#snapshot;
    if (this.#loading !== undefined) {
      // What is being loaded may be older than what was just read.
      await this.#loading;
      return this.snapshot();
    }
    this.#loading = this.#load(records).finally(() => (this.#loading = undefined));
    return this.#loading;
  }

  #isCurrent(records: readonly ImageRecord[]): boolean {
    const known = this.#records;
    if (known === records) return true;
    return known?.length === records.length && records.every((record, index) => record === known[index]);
  }

  async #load(records: readonly ImageRecord[]): Promise<Snapshot> {
    const cached = await Promise.all(records.map((record) => this.#read(record)));
    this.#cache = new Map(cached.map((item) => [item.record.id, item]));
    this.#records = records;
    this.#snapshot = new Snapshot(cached.flatMap(({ entry }) => (entry === undefined ? [] : [entry])));
    return this.#snapshot;
  }

  async #read(record: ImageRecord): Promise<CachedEntry> {
    const known = this.#cache.get(record.id);
    if (known?.record === record) return known;
    const key = recordKey(record);
    // One that could not be read may have been in the middle of a removal, and be back: it is looked at again.
    if (known?.key === key && known.entry !== undefined) return { ...known, record };
    try {
      return { record, key, entry: await this.#build(record) };
    } catch (error) {
      // One damaged image must not hide the others; the next pull writes it anew.
      this.#log.warn(`Image ${record.id} (${record.names.join(', ')}) cannot be read`, error);
      return { record, key, entry: undefined };
    }
  }

  async #build(record: ImageRecord): Promise<CatalogEntry> {
    const { document, annotations } = await readDocuments(this.#store, record);
    const names = record.names.flatMap(readName);
    const repositories = [...new Set(names.map(repositoryOf))];
    const repoDigests = deriveRepoDigests(record, names);
    const repoTags = names
      .filter(({ tag }) => tag !== undefined)
      .map(formatReference)
      .toSorted();
    const image: Image = {
      id: record.id,
      repoTags,
      repoDigests,
      digest: record.digest,
      sizeBytes: await this.#store.images.size(record.id),
      // What cannot be removed must not be tried again and again by kubelet's garbage collection.
      pinned: record.isReadOnly === true || this.#isPinned([...record.names, ...repoDigests]),
      topLayer: record.topLayer,
      config: document.config,
      annotations,
    };
    return { record, image, repositories };
  }
}

/** Every repository of a name with every known manifest digest, and names that are by digest as they are. */
export function deriveRepoDigests(record: ImageRecord, names: readonly Reference[]): readonly string[] {
  const digests = new Set(
    names.flatMap(({ digest, ...rest }) =>
      digest === undefined ? [] : [`${repositoryOf({ ...rest, digest })}@${digest}`],
    ),
  );
  for (const repository of new Set(names.map(repositoryOf))) {
    for (const digest of record.digests) digests.add(`${repository}@${digest}`);
  }
  if (names.length === 0) {
    // An image that lost all its names is shown under the last one, so that people know what it was.
    const last = record.namesHistory.flatMap(readName)[0];
    if (last !== undefined && record.digest !== undefined) digests.add(`${repositoryOf(last)}@${record.digest}`);
  }
  return [...digests].toSorted();
}

/** Names that other tools wrote may be no references: they are not shown. */
function readName(name: string): readonly Reference[] {
  try {
    return [parseReference(name)];
  } catch {
    return [];
  }
}

async function readDocuments(
  store: Store,
  record: ImageRecord,
): Promise<{ document: ImageDocument; annotations: ReadonlyMap<string, string> }> {
  const manifestData = await store.images.readBigData(record.id, 'manifest');
  const manifest = manifestData === undefined ? undefined : readManifest(manifestData);
  const configKey = manifest?.config ?? `sha256:${record.id}`;
  const configData = await store.images.readBigData(record.id, configKey);
  if (configData === undefined) throw new CrioError('not-found', `its config "${configKey}" is missing`);
  return { document: parseImageConfig(configData), annotations: manifest?.annotations ?? new Map() };
}

/** Images of other tools may have manifests we would not pull (schema 1): their config is enough to run them. */
function readManifest(data: Buffer): { config: string; annotations: ReadonlyMap<string, string> } | undefined {
  try {
    const manifest = parseStoredManifest(data);
    return manifest.kind === 'index' || manifest.kind === 'schema1'
      ? undefined
      : { config: manifest.config.digest, annotations: manifest.annotations };
  } catch {
    return undefined;
  }
}

function recordKey(record: ImageRecord): string {
  return JSON.stringify([
    record.names,
    record.namesHistory,
    record.topLayer,
    record.digests,
    [...record.bigDataDigests],
    record.isReadOnly === true,
  ]);
}
