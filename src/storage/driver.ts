import type { LayerAbove } from './layers-above.ts';
import type { IdMapping } from '../pod/config.ts';
import type { TempDir } from './temp-dirs.ts';

export interface MountOptions {
  /** Nothing of the upper layer is synced: container layers, which a reboot ends. */
  readonly isVolatile: boolean;
  /** SELinux label of all files; empty for none. */
  readonly label: string;
  readonly uidMap: readonly IdMapping[];
  readonly gidMap: readonly IdMapping[];
}

export interface ReplaceOptions {
  readonly parent: string | undefined;
  /** A folder with the unpacked layer, which is moved in. */
  readonly content: string;
  /** Those that name it in what they keep of the layers below them */
  readonly above: readonly LayerAbove[];
  /** A mounted container may use the old content: it stays until the layer is deleted. */
  readonly keepsOld: boolean;
}

/** How layer content lies on disk and becomes one root file system. All but `isMounted` run under the layers lock. */
export interface Driver extends Partial<Disposable> {
  readonly name: 'overlay' | 'vfs';
  readonly home: string;
  /** Makes the folders of the driver itself. */
  prepare(): Promise<void>;
  /**
   * Makes the folders of a layer. `content`: a folder with the unpacked layer, which is moved in. `above`: layers that were
   * made when this one was here before, or in an additional store.
   */
  create(
    id: string,
    options: {
      readonly parent: string | undefined;
      readonly content?: string;
      readonly above?: readonly LayerAbove[];
    },
  ): Promise<void>;
  /** Puts new content of a damaged layer in place of what is left of it. */
  replace(id: string, options: ReplaceOptions): Promise<void>;
  /**
   * What is wrong with a layer, seen without reading its content; undefined when nothing is. `isOwn`: of our own index, and
   * not of an additional store.
   */
  inspect(id: string, layer: { readonly hasParent: boolean; readonly isOwn: boolean }): Promise<string | undefined>;
  /** What `create` wrote for these layers outlives a power cut when this returns. */
  sync(ids: readonly string[]): Promise<void>;
  /** Moves all that belongs to a layer of our own into `trash`. */
  remove(id: string, trash: TempDir): Promise<void>;
  /** Whether a layer of our own has its folder. */
  exists(id: string): Promise<boolean>;
  /** Ids of all layer folders on disk. */
  list(): Promise<string[]>;
  /** Those in `home`, in the graph root, alone. */
  listHome(): Promise<string[]>;
  /** Another program wrote the index: a layer may have been removed and made again, under the same id but with other files. */
  forget(): void;
  /** Removes what belongs to layers that are not known, beside their folders. */
  removeStale(isKnown: (id: string) => boolean): Promise<void>;
  mount(id: string, options: MountOptions): Promise<string>;
  /** Not mounted is success. */
  unmount(id: string): Promise<void>;
  isMounted(id: string): Promise<boolean>;
  mountPoint(id: string): string;
  /** Folder that takes the changes of a container; undefined where changes cannot be told from the rest. */
  upperDirectory(id: string): string | undefined;
  /** Where content is unpacked before the layer exists: on the same file system, below the driver's home. */
  readonly stagingParent: string;
  /** A layer is unpacked onto a copy of its parent, whose content must be there first. */
  readonly unpacksOntoParent: boolean;
  /** Fills the folder that a layer is unpacked into. `parentContent` as of `contentFolder`, or where the parent is staged. */
  prepareStaging(folder: string, parentContent: string | undefined): Promise<void>;
  /** Gives the unpacked folder mode and owner of the parent's; runs when the parent is in the index. */
  finishStaging(folder: string, parent: string | undefined): Promise<void>;
  contentFolder(id: string): string;
  /** Where the files of a layer of our own lie under their own names, in any root; undefined when they lie in another form. */
  plainContent(id: string): Promise<string | undefined>;
  /** Mounts a layer with its parents read-only on `target`. */
  mountReadOnly(id: string, target: string): Promise<void>;
}
