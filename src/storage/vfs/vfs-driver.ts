import { chmod, mkdir, rename, stat } from 'node:fs/promises';
import { CrioError, hasCode } from '../../base/errors.ts';
import { isId } from '../../base/ids.ts';
import { RENAME_EXCHANGE, renameat2 } from '../../sys/file.ts';
import { MS_BIND, MS_RDONLY, MS_REMOUNT, mount } from '../../sys/mount.ts';
import { copyTree } from '../copy-tree.ts';
import type { Driver, MountOptions, ReplaceOptions } from '../driver.ts';
import { syncPath } from '../index/atomic-write.ts';
import { makeFolder } from '../overlay/layer-dirs.ts';
import { listNames } from '../temp-dirs.ts';
import type { TempDir } from '../temp-dirs.ts';

const rootMode = 0o555;

/**
 * The vfs driver: every layer is a whole copy of its parent with its own changes applied, for file systems that overlay
 * cannot use. Needs a lot of space; there is nothing to mount.
 */
export class VfsDriver implements Driver {
  readonly name = 'vfs';
  readonly home: string;
  readonly stagingParent: string;
  readonly unpacksOntoParent = true;

  constructor(graphRoot: string) {
    this.home = `${graphRoot}/vfs`;
    this.stagingParent = `${this.home}/tempdirs`;
  }

  async prepare(): Promise<void> {
    await mkdir(`${this.home}/dir`, { recursive: true, mode: 0o700 });
  }

  async create(id: string, options: { parent: string | undefined; content?: string }): Promise<void> {
    if (options.content !== undefined) await rename(options.content, this.mountPoint(id));
    else if (options.parent === undefined) await makeFolder(this.mountPoint(id), rootMode, { uid: 0, gid: 0 });
    else await copyTree(this.mountPoint(options.parent), this.mountPoint(id));
  }

  /** A container has a copy of its own: what was here is in nobody's use. */
  async replace(id: string, { content }: ReplaceOptions): Promise<void> {
    const folder = this.mountPoint(id);
    try {
      renameat2(undefined, content, undefined, folder, RENAME_EXCHANGE);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
      await rename(content, folder);
    }
  }

  async inspect(id: string): Promise<string | undefined> {
    return (await this.exists(id)) ? undefined : 'its folder is missing';
  }

  async sync(): Promise<void> {
    await syncPath(`${this.home}/dir`);
  }

  async remove(id: string, trash: TempDir): Promise<void> {
    await trash.take(this.mountPoint(id));
  }

  async exists(id: string): Promise<boolean> {
    try {
      await stat(this.mountPoint(id));
      return true;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }

  async list(): Promise<string[]> {
    return (await listNames(`${this.home}/dir`)).filter(isId);
  }

  listHome(): Promise<string[]> {
    return this.list();
  }

  forget(): void {}

  async removeStale(): Promise<void> {}

  mountPoint(id: string): string {
    return `${this.home}/dir/${id}`;
  }

  upperDirectory(): undefined {
    return undefined;
  }

  /** There is no mount that could be lost. */
  async isMounted(): Promise<boolean> {
    return false;
  }

  async mount(id: string, options: MountOptions): Promise<string> {
    if (options.uidMap.length > 0 || options.gidMap.length > 0) {
      throw new CrioError('unimplemented', 'user namespaces need the overlay storage driver');
    }
    if (!(await this.exists(id))) throw new CrioError('not-found', `layer "${id}" is not in storage`);
    return this.mountPoint(id);
  }

  async unmount(): Promise<void> {}

  /** What the parent holds is there before the layer's own entries are applied to it. */
  async prepareStaging(folder: string, parentContent: string | undefined): Promise<void> {
    if (parentContent === undefined) await chmod(folder, rootMode);
    else await copyTree(parentContent, folder);
  }

  async finishStaging(): Promise<void> {}

  contentFolder(id: string): string {
    return this.mountPoint(id);
  }

  async plainContent(id: string): Promise<string> {
    return this.mountPoint(id);
  }

  async mountReadOnly(id: string, target: string): Promise<void> {
    mount(this.mountPoint(id), target, 'none', MS_BIND);
    mount('none', target, 'none', MS_BIND | MS_REMOUNT | MS_RDONLY);
  }
}
