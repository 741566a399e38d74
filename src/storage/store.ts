import type { Digest } from '../base/ids.ts';
import type { IdMapping } from '../pod/config.ts';

/**
 * A containers/storage store (graph root + run root), shared with podman, buildah, skopeo and CRI-O.
 * Reads are served from memory, which is re-read when another process changed the files (lock file token);
 * writes hold the lock files in the order of the format. No lock is held while content is unpacked.
 */
export interface Store extends AsyncDisposable {
  readonly graphRoot: string;
  readonly runRoot: string;
  readonly imageStore: string;
  readonly driverName: 'overlay' | 'vfs';
  readonly images: ImageStore;
  readonly layers: LayerStore;
  readonly containers: ContainerStore;
  readonly health: StoreHealth;
}

/** Looks for what is missing or damaged. */
export interface StoreHealth {
  /**
   * Looks at every layer, image and container, also at their contents when asked to. Changes nothing. `maxAgeMs`: an image
   * layer that nothing refers to may be so old, as it may belong to a pull that goes on.
   */
  check(options: { readonly contents: boolean; readonly maxAgeMs: number }): Promise<StoreDamage>;
  /**
   * Deletes damaged images and layers, and with `containers` damaged containers, as far as they are what `check` has seen.
   * Images that a container uses are set aside instead, as `walk` does. Throws at the first that cannot be. Returns the
   * images by id.
   */
  repair(damage: StoreDamage, options: { readonly containers: boolean }): Promise<ReadonlyMap<string, RepairedImage>>;
  /**
   * Looks in the background, slowly, and takes damaged images out of the lists. With `contents`, as after an unclean stop,
   * it also deletes layers that nothing refers to and that are older than a day. Errors are logged.
   */
  walk(options: { readonly contents: boolean; readonly signal: AbortSignal }): Promise<void>;
  /** Why an image does not count as present; undefined when it does. */
  damageOf(imageId: string): string | undefined;
}

export interface RepairedImage {
  /** Id of a container, for which it was set aside; else it was deleted. */
  readonly usedBy: string | undefined;
}

/** Reasons by id. */
export interface StoreDamage {
  readonly layers: ReadonlyMap<string, string>;
  /** Tells each of `layers` from a later one of its id, which `repair` leaves alone. */
  readonly versions: ReadonlyMap<string, string>;
  readonly readOnlyLayers: ReadonlyMap<string, string>;
  readonly images: ReadonlyMap<string, string>;
  readonly readOnlyImages: ReadonlyMap<string, string>;
  /** Of the damaged images: what to pull them by, tags or else digests. */
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly containers: ReadonlyMap<string, string>;
}

export interface ImageRecord {
  readonly id: string;
  readonly digest: Digest | undefined;
  readonly names: readonly string[];
  readonly namesHistory: readonly string[];
  readonly topLayer: string | undefined;
  readonly metadata: string;
  readonly bigDataNames: readonly string[];
  readonly bigDataSizes: ReadonlyMap<string, number>;
  readonly bigDataDigests: ReadonlyMap<string, Digest>;
  /** ns since the epoch */
  readonly createdNs: bigint;
  /** `digest` and the digests of every big data item whose name starts with `manifest` */
  readonly digests: readonly Digest[];
  /** It lies in an additional image store: it can be used, but neither renamed nor removed. */
  readonly isReadOnly?: boolean;
}

export interface LayerRecord {
  readonly id: string;
  readonly parent: string | undefined;
  readonly diffDigest: Digest | undefined;
  readonly diffSize: number | undefined;
  readonly compressedDigest: Digest | undefined;
  readonly compressedSize: number | undefined;
}

export interface ContainerRecord {
  readonly id: string;
  readonly names: readonly string[];
  readonly imageId: string;
  readonly layerId: string;
  /** JSON text; CRI-O's keys are in storage-format 7 */
  readonly metadata: string;
  readonly createdNs: bigint;
  readonly mountLabel: string;
  readonly uidMap: readonly IdMapping[];
  readonly gidMap: readonly IdMapping[];
}

export type ChangeNames = (names: readonly string[]) => readonly string[];

export interface ImageStore {
  /** In the order of the file; includes additional stores, but no damaged image. Served from memory. */
  list(): Promise<readonly ImageRecord[]>;
  /** Exact id, name, or unique id prefix. A damaged image is not found. */
  find(idOrName: string): Promise<ImageRecord | undefined>;
  /** Images that were found damaged: they do not count as present until they are pulled again. */
  damaged(): Promise<readonly ImageRecord[]>;
  /** One big data file; undefined when the image has none of this name. */
  readBigData(imageId: string, key: string): Promise<Buffer | undefined>;
  /** Sum of big data, signatures and `diffSize` of each layer in the chain, bytes. */
  size(imageId: string): Promise<number>;
  /** Adds the record with all its data (data first, synced, then the index), or updates an existing one as a re-pull does. */
  put(image: NewImage): Promise<ImageRecord>;
  /**
   * Replaces the names by what `change` makes of those it has then; a name that another image has is taken from it. When that
   * is none, or the image is not there, nothing happens and false is given.
   */
  changeNames(imageId: string, change: ChangeNames): Promise<boolean>;
  /**
   * Deletes record, data and every layer no longer used. Throws failed-precondition naming the container that uses it. An
   * image that `left` leaves a name, of those it has then, stays as it is, and false is given; so does one that
   * `shouldDelete` is against, which is asked when all locks are held.
   */
  delete(imageId: string, left?: ChangeNames, shouldDelete?: () => Promise<boolean>): Promise<boolean>;
}

export interface NewImage {
  readonly id: string;
  readonly digest: Digest;
  /** Names to add to those it has. */
  readonly addNames: readonly string[];
  readonly topLayer: string | undefined;
  readonly createdNs: bigint;
  readonly metadata: string;
  /** In the order of storage-format 6. */
  readonly bigData: readonly { readonly key: string; readonly data: Uint8Array; readonly digest: Digest }[];
}

export interface LayerSize {
  readonly bytes: number;
  readonly inodes: number;
}

/** What image layers take, by the disk where they lie. */
export interface StoreUsage {
  /** In the root that takes new images: the image store, or the graph root where there is none. */
  readonly imageRoot: LayerSize;
  /** In the graph root beside an image store, from before it was set; zero without one. */
  readonly graphRoot: LayerSize;
}

export interface LayerStore {
  find(id: string): Promise<LayerRecord | undefined>;
  /** The id a layer gets in this format: storage-format 3. */
  idFor(parent: string | undefined, diffId: Digest): string;
  /**
   * Unpacks one layer while it streams in, and adds it. The stream is the blob as received (gzip, zstd or plain,
   * told by its first bytes). Verifies `diffId` and, when given, the blob's digest; writes tar-split.
   * A layer that is there already, or that another caller is unpacking now, is not unpacked twice.
   */
  unpack(options: UnpackOptions): Promise<LayerRecord>;
  /**
   * Makes the unpacked layers of one image durable and adds them to the index: `syncfs` first, once per image. A process
   * that ends before the image is there leaves them to the next start, which deletes them.
   */
  sync(topLayer: string | undefined): Promise<void>;
  /**
   * Keeps unpacked layers while a pull works with them. Others go after ten minutes: until then the next try of a pull
   * that failed finds them.
   */
  hold(layerIds: readonly string[]): Disposable;
  /**
   * Deletes these layers, base first, as far as no image, no container and no holder has them: unpacked ones, and those in
   * the index from the top down, as far as this program brought them.
   */
  discard(layerIds: readonly string[]): Promise<void>;
  /** Of all image layers, from records and counters, never by walking. */
  usage(): Promise<StoreUsage>;
  /** Mounts an image's layers read-only for image volumes and inspection; undone by the returned function. */
  mountReadOnly(layerId: string, target: string): Promise<() => Promise<void>>;
}

export interface UnpackOptions {
  readonly parent: string | undefined;
  readonly diffId: Digest;
  /** Digest of the blob; undefined when the caller has verified it. */
  readonly blobDigest: Digest | undefined;
  readonly blobSize: number | undefined;
  /** A piece is not looked at any more when the next one is asked for. */
  readonly blob: AsyncIterable<Uint8Array>;
  /** Told how many more bytes of the blob are on disk, unpacked. */
  readonly onUnpacked?: (bytes: number) => void;
  readonly signal: AbortSignal;
}

export interface ContainerStore {
  list(): Promise<readonly ContainerRecord[]>;
  find(idOrName: string): Promise<ContainerRecord | undefined>;
  /** Writable layer on the image's top layer, its directories, then the record. All are volatile records, as CRI-O's. */
  create(options: NewContainer): Promise<ContainerRecord>;
  setMetadata(id: string, metadata: string): Promise<void>;
  /**
   * Unmounts, deletes layer, directories and record; an unknown id is success. One that `shouldDelete` is against, which is
   * asked when all locks are held, stays as it is.
   */
  delete(id: string, shouldDelete?: () => Promise<boolean>): Promise<void>;
  /** Mounts the root file system (again, when it is not really mounted) and returns its path. */
  mount(id: string): Promise<string>;
  /**
   * True when another program may have hidden or detached the root file system since `mount`, so that what was found
   * there, or was not, means nothing: mount again and look again.
   */
  rootWasLost(id: string): Promise<boolean>;
  /** Unmounts the root file system; not mounted is success. */
  unmount(id: string): Promise<void>;
  /** `<graphroot>/<driver>-containers/<id>/userdata`, mode 0700; created by `create`. */
  directory(id: string): string;
  /** `<runroot>/<driver>-containers/<id>/userdata`, mode 0700; created by `create`. */
  runDirectory(id: string): string;
  /** The upper directory of the writable layer, for usage; undefined for vfs. */
  upperDirectory(id: string): string | undefined;
  /** Where `mount` mounts. */
  mountPoint(id: string): string;
}

export interface NewContainer {
  readonly id: string;
  readonly names: readonly string[];
  readonly layerName: string;
  /** Empty: a container on no image. */
  readonly imageId: string;
  readonly metadata: string;
  readonly mountLabel: string;
  readonly uidMap: readonly IdMapping[];
  readonly gidMap: readonly IdMapping[];
  /** Mounts the root file system in the same step, which costs less than a `mount` afterwards; that then only looks. */
  readonly mount?: boolean;
}
