import { chmod, chown, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { hasCode, wrap } from '../../base/errors.ts';
import { isId } from '../../base/ids.ts';
import { isThere } from '../../base/is-there.ts';
import type { Logger } from '../../base/log.ts';
import type { IdMapping } from '../../pod/config.ts';
import { MNT_DETACH, UMOUNT_NOFOLLOW, mount, mountAsync, umountAsync } from '../../sys/mount.ts';
import { directCalls, fileCallsFor } from '../file-calls.ts';
import type { FileCalls } from '../file-calls.ts';
import type { Driver, MountOptions, ReplaceOptions } from '../driver.ts';
import { removeTree } from '../remove-tree.ts';
import type { TempDir } from '../temp-dirs.ts';
import { CoveredHome } from './covered-home.ts';
import type { LayerAbove } from '../layers-above.ts';
import {
  createLayerDirs,
  makeFolder,
  readLower,
  readParent,
  shortLinkOf,
  shortLinks,
  syncLayerDirs,
} from './layer-dirs.ts';
import type { ParentFacts } from './layer-dirs.ts';
import { Homes } from './homes.ts';
import { inspectLayerDirs } from './inspect-layer.ts';
import { mapLowers } from './map-lowers.ts';
import { maxMountData, mountWithShortPaths } from './mount-short.ts';
import { planMount } from './mount-plan.ts';
import type { PlanInput } from './mount-plan.ts';
import { copyNear, replaceLayerDirs } from './replace-layer.ts';
import { UserNamespaces, mappedRoot } from './user-namespace.ts';

export interface OverlayOptions {
  readonly graphRoot: string;
  /** Root of image layers, when it is another one than `graphRoot`. */
  readonly imageRoot: string;
  /** Graph roots that are only read. */
  readonly additionalRoots: readonly string[];
  readonly mountOptions: readonly string[];
  readonly disableVolatile: boolean;
  readonly log: Logger;
}

/**
 * The overlay driver: one folder per layer below `<root>/overlay`, joined by the kernel's overlay file system.
 * The home is not bind-mounted onto itself: what other programs detach there then leaves our mounts alone.
 */
export class OverlayDriver implements Driver, Disposable {
  readonly name = 'overlay';
  readonly home: string;
  readonly stagingParent: string;
  readonly unpacksOntoParent = false;
  readonly #imageHome: string;
  readonly #homes: Homes;
  readonly #options: OverlayOptions;
  readonly #namespaces = new UserNamespaces();
  /** What children need to know of an image layer; it does not change while the layer exists, see `forget`. */
  readonly #parents = new Map<string, ParentFacts>();
  /** Container layers that this process made: what their files say, and that nobody has mounted them yet. */
  readonly #made = new Map<string, MadeLayer>();
  readonly #callsOf = new Map<string, FileCalls>();
  /** Known from `prepare` on. */
  #firstHome: CoveredHome | undefined;
  #canVolatile: boolean;

  constructor(options: OverlayOptions) {
    this.#options = options;
    this.home = `${options.graphRoot}/overlay`;
    this.#imageHome = `${options.imageRoot}/overlay`;
    this.#homes = new Homes(options);
    this.stagingParent = `${this.#imageHome}/tempdirs`;
    this.#canVolatile = !options.disableVolatile;
  }

  /** Makes the folders of the driver itself. */
  async prepare(): Promise<void> {
    for (const home of this.#homes.own) await mkdir(`${home}/l`, { recursive: true, mode: 0o755 });
    this.#firstHome ??= new CoveredHome(this.home);
    try {
      await writeFile(`${this.home}/.has-mount-program`, 'false', { flag: 'wx', mode: 0o600 });
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
  }

  async create(
    id: string,
    options: { parent: string | undefined; content?: string; above?: readonly LayerAbove[] },
  ): Promise<void> {
    const { content, above = [] } = options;
    const parent = options.parent === undefined ? undefined : await this.#parentFacts(options.parent);
    const home = content === undefined ? this.home : this.#imageHome;
    const known = await this.#homes.freeName(above);
    const link = await createLayerDirs({ home, id, parent, content, link: known, calls: this.#calls(home) });
    this.#parents.delete(id);
    if (options.content === undefined) this.#made.set(id, { link, lower: parent?.lower ?? '', parent, isFresh: true });
  }

  async replace(id: string, options: ReplaceOptions): Promise<void> {
    const parent = options.parent === undefined ? undefined : await this.#parentFacts(options.parent);
    this.#parents.delete(id);
    const home = (await this.#homes.ownOf(id)) ?? this.#imageHome;
    const layer = { ...options, id, parent, home, homes: this.#homes.own };
    if (home === this.#imageHome) return replaceLayerDirs(layer);
    await using copy = await copyNear(home, options.content);
    await replaceLayerDirs({ ...layer, content: copy.content });
  }

  async inspect(id: string, layer: { hasParent: boolean; isOwn: boolean }): Promise<string | undefined> {
    const home = layer.isOwn ? await this.#homes.ownOf(id) : await this.#homes.of(id);
    if (home === undefined) return 'its folder is missing';
    const fault = await inspectLayerDirs(home, id, layer.hasParent);
    if (fault !== undefined) return fault;
    const links = (await readLower(`${home}/${id}`)).split(':').filter((item) => item !== '');
    const [lost] = await this.#homes.namesOfNobody(links);
    return lost === undefined ? undefined : `its list of lower layers names ${lost}, which no layer has`;
  }

  async sync(ids: readonly string[]): Promise<void> {
    const homes = await Promise.all(ids.map((id) => this.#homes.ownOf(id)));
    for (const home of this.#homes.own) {
      const here = ids.filter((_, at) => (homes[at] ?? this.#imageHome) === home);
      if (here.length > 0) await syncLayerDirs(home, here);
    }
  }

  #calls(home: string): FileCalls {
    let calls = this.#callsOf.get(home);
    if (calls === undefined) {
      calls = fileCallsFor(home);
      this.#callsOf.set(home, calls);
    }
    return calls;
  }

  async remove(id: string, trash: TempDir): Promise<void> {
    const made = this.#made.get(id);
    const home = made === undefined ? await this.#homes.ownOf(id) : this.home;
    if (home === undefined) return;
    const link = made?.link ?? (await shortLinkOf(home, id));
    await Promise.all([link === undefined ? undefined : trash.take(`${home}/l/${link}`), trash.take(`${home}/${id}`)]);
    this.#parents.delete(id);
    this.#made.delete(id);
  }

  async exists(id: string): Promise<boolean> {
    return (await this.#homes.ownOf(id)) !== undefined;
  }

  async list(): Promise<string[]> {
    const names = await Promise.all(this.#homes.own.map((home) => readdir(home)));
    return names.flat().filter(isId);
  }

  async listHome(): Promise<string[]> {
    return (await readdir(this.home)).filter(isId);
  }

  forget(): void {
    this.#parents.clear();
  }

  /** A deletion that was cut short may leave the short name of a layer that is gone. */
  async removeStale(isKnown: (id: string) => boolean): Promise<void> {
    for (const home of this.#homes.own) {
      for (const [link, id] of await shortLinks(home)) if (!isKnown(id)) await removeTree(`${home}/l/${link}`);
    }
  }

  mountPoint(id: string): string {
    return `${this.home}/${id}/merged`;
  }

  upperDirectory(id: string): string {
    return `${this.home}/${id}/diff`;
  }

  /** A mounted overlay is a file system of its own: `merged` is on another device than the folder it lies in. */
  async isMounted(id: string): Promise<boolean> {
    if (this.#made.get(id)?.isFresh === true) return false;
    const folder = `${this.home}/${id}`;
    try {
      const [inside, outside] = await Promise.all([stat(`${folder}/merged`), stat(folder)]);
      return inside.dev !== outside.dev;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }

  async mount(id: string, options: MountOptions): Promise<string> {
    const folder = `${this.home}/${id}`;
    const target = `${folder}/merged`;
    const made = this.#made.get(id);
    const owner = { uid: mappedRoot(options.uidMap) ?? 0, gid: mappedRoot(options.gidMap) ?? 0 };
    const isFresh = made?.isFresh === true;
    if (!isFresh || owner.uid !== (made.parent?.uid ?? 0) || owner.gid !== (made.parent?.gid ?? 0)) {
      await Promise.all([ensureOwned(`${folder}/diff`, 0o555, owner), ensureOwned(target, 0o700, owner)]);
    }
    const links = (made?.lower ?? (await readLower(folder))).split(':').filter((item) => item !== '');
    const plan = (lowers: readonly string[]): PlanInput => ({
      lowers: lowers.length > 0 ? lowers : [`${folder}/empty`],
      upper: `${folder}/diff`,
      work: `${folder}/work`,
      options: this.#options.mountOptions,
      isVolatile: options.isVolatile && this.#canVolatile,
      label: options.label,
    });
    if (options.isVolatile && !isFresh) await removeTree(`${folder}/work/work/incompat/volatile`);
    const lowers = await this.#homes.lowerFolders(links);
    if (made !== undefined) made.isFresh = false;
    if (options.uidMap.length > 0 && lowers.length > 0) await this.#mountMapped(folder, lowers, options, plan, target);
    else await this.#mountOverlay(plan(lowers), target);
    return target;
  }

  async unmount(id: string): Promise<void> {
    const target = this.mountPoint(id);
    // Stacked mounts come from programs that did not see the first one.
    for (let attempt = 0; attempt < 8; attempt++) {
      try {
        await umountAsync(target, MNT_DETACH | UMOUNT_NOFOLLOW);
      } catch (error) {
        if (hasCode(error, 'EINVAL', 'ENOENT')) break;
        throw wrap(`unmount "${target}"`, error);
      }
    }
    this.#firstHome?.unmountAll(`${id}/merged`);
  }

  async prepareStaging(): Promise<void> {}

  contentFolder(id: string): string {
    return `${this.#imageHome}/${id}/diff`;
  }

  async plainContent(id: string): Promise<string | undefined> {
    const folder = `${(await this.#homes.ownOf(id)) ?? this.#imageHome}/${id}`;
    return (await isThere(`${folder}/composefs-data`)) ? undefined : `${folder}/diff`;
  }

  async finishStaging(folder: string, parent: string | undefined): Promise<void> {
    const facts = parent === undefined ? undefined : await this.#parentFacts(parent);
    await chmod(folder, facts?.mode ?? 0o555);
    await chown(folder, facts?.uid ?? 0, facts?.gid ?? 0);
  }

  async mountReadOnly(id: string, target: string): Promise<void> {
    const home = await this.#homes.of(id);
    const folder = `${home ?? this.home}/${id}`;
    const links = (await readLower(folder)).split(':').filter((item) => item !== '');
    const lowers = [`${folder}/diff`, ...(await this.#homes.lowerFolders(links))];
    // A single lower is no overlay: an empty folder below it changes nothing.
    if (lowers.length === 1) lowers.push(`${folder}/empty`);
    const input = {
      lowers,
      upper: undefined,
      work: undefined,
      options: this.#options.mountOptions,
      isVolatile: false,
      label: '',
    };
    await this.#mountOverlay(input, target);
  }

  [Symbol.dispose](): void {
    this.#firstHome?.[Symbol.dispose]();
    this.#namespaces[Symbol.dispose]();
  }

  async #mountOverlay(input: PlanInput, target: string): Promise<void> {
    try {
      await this.#mountOnce(input, target);
    } catch (error) {
      // Kernels before 5.10 do not know `volatile`.
      if (!hasCode(error, 'EINVAL') || !input.isVolatile) throw wrap(`mount overlay on "${target}"`, error);
      try {
        await this.#mountOnce({ ...input, isVolatile: false }, target);
      } catch {
        throw wrap(`mount overlay on "${target}"`, error);
      }
      this.#canVolatile = false;
      this.#options.log.warn('this kernel has no volatile overlay mounts: changes of containers are synced');
    }
  }

  async #mountOnce(input: PlanInput, target: string): Promise<void> {
    const { flags, data } = planMount(input);
    if (Buffer.byteLength(data) >= maxMountData) mountWithShortPaths(input, target, this.#homes.all);
    // Overlay makes folders in `work`: on a disk that may take long, in memory it does not.
    else if (this.#calls(this.home) === directCalls) mount('overlay', target, 'overlay', flags, data);
    else await mountAsync('overlay', target, 'overlay', flags, data);
  }

  /** Lowers with their ids mapped. */
  async #mountMapped(
    folder: string,
    lowers: readonly string[],
    options: { uidMap: readonly IdMapping[]; gidMap: readonly IdMapping[] },
    plan: (lowers: readonly string[]) => PlanInput,
    target: string,
  ): Promise<void> {
    const userNamespaceFd = await this.#namespaces.get(options.uidMap, options.gidMap);
    const rootOf = (lower: string) => this.#homes.all.find((home) => lower.startsWith(`${home}/`)) ?? this.home;
    await using mapped = await mapLowers({ lowers, rootOf, folder: `${folder}/mapped`, userNamespaceFd });
    await this.#mountOverlay(plan(mapped.lowers), target);
  }

  async #parentFacts(parent: string): Promise<ParentFacts> {
    const known = this.#parents.get(parent);
    if (known !== undefined) return known;
    const facts = await readParent((await this.#homes.of(parent)) ?? this.home, parent);
    this.#parents.set(parent, facts);
    return facts;
  }
}

interface MadeLayer {
  readonly link: string;
  readonly lower: string;
  readonly parent: ParentFacts | undefined;
  isFresh: boolean;
}

/** The folder exists and belongs to the root of the mapping; its mode stays. */
async function ensureOwned(path: string, mode: number, owner: { uid: number; gid: number }): Promise<void> {
  try {
    const stats = await stat(path);
    if (stats.uid !== owner.uid || stats.gid !== owner.gid) await chown(path, owner.uid, owner.gid);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    await makeFolder(path, mode, owner);
  }
}
