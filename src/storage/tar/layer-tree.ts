import { closeSync, readdirSync } from 'node:fs';
import { hasCode } from '../../base/errors.ts';
import { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDONLY, O_WRONLY } from '../../sys/arch.ts';
import { AT_REMOVEDIR, mkdirat, openInRoot, openat2, statAt, unlinkat } from '../../sys/file.ts';
import type { FileStat } from '../../sys/file.ts';
import { pathBytes, splitPath } from './clean-path.ts';
import type { BytePath } from './clean-path.ts';
import type { NameSet } from './unique-names.ts';

/** Where one entry goes: a descriptor of its folder, and its name there. Valid until the next but one place is asked for. */
export interface Place {
  readonly folderFd: number;
  readonly name: string | Buffer;
  readonly path: BytePath;
}

const maxOpenFolders = 64;
const typeMask = 0o170000;
const folderType = 0o040000;

export function isFolder(stat: FileStat): boolean {
  return (stat.mode & typeMask) === folderType;
}

/**
 * The tree that a layer is unpacked into. Every path of the archive is resolved by the kernel inside this root, as for a
 * process chrooted there; what then happens to an entry happens by its folder's descriptor and a single name, which
 * follows no link. Folders last used stay open.
 */
export class LayerTree implements Disposable {
  readonly rootFd: number;
  readonly #folders = new Map<BytePath, number>();
  /** Folders made because an entry below them came first. */
  implicitFolders = 0;

  constructor(root: string) {
    this.rootFd = openat2(undefined, root, { flags: O_PATH | O_DIRECTORY });
  }

  /** The place of `path`, whose missing folders are made. `path` is clean and not the root. */
  place(path: BytePath): Place {
    const [folder, name] = splitPath(path);
    return { folderFd: this.#folder(folder), name: pathBytes(name), path };
  }

  /** The place of something that must be there. ENOENT when its folder is not. */
  existing(path: BytePath): Place {
    const [folder, name] = splitPath(path);
    return { folderFd: this.#known(folder) ?? this.#open(folder), name: pathBytes(name), path };
  }

  stat(place: Place): FileStat | undefined {
    try {
      return statAt(place.folderFd, place.name);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  /** Opens a new file for writing; EEXIST when the name is taken. */
  createFile(place: Place): number {
    return openat2(place.folderFd, place.name, { flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600 });
  }

  /** Runs `create`; when the name is taken, removes what has it and runs it again. */
  replacing<T>(place: Place, create: () => T): T {
    try {
      return create();
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    this.remove(place);
    return create();
  }

  /** Removes whatever has this name, with all below it. */
  remove(place: Place): void {
    // A folder, or a link to one, may be on the way of paths that were resolved before.
    this.#forgetFolders(place.folderFd);
    removeAt(place.folderFd, place.name);
  }

  /** Like `remove`; nothing there, or no folder that could hold it, is success. */
  removeIfThere(path: BytePath): void {
    try {
      this.remove(this.existing(path));
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'ENOTDIR')) throw error;
    }
  }

  /** Removes what a folder ('' is the root) holds, but for paths that `keep` names and what is above them. */
  clearFolder(path: BytePath, keep: Pick<NameSet, 'has'>): void {
    const folderFd = this.#folder(path);
    this.#forgetFolders(folderFd);
    clearAt(folderFd, path, keep);
  }

  [Symbol.dispose](): void {
    this.#forgetFolders();
    closeSync(this.rootFd);
  }

  #folder(path: BytePath): number {
    const known = this.#known(path);
    if (known !== undefined) return known;
    try {
      return this.#open(path);
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    const [above, name] = splitPath(path);
    mkdirat(this.#folder(above), pathBytes(name), 0o777);
    this.implicitFolders += 1;
    return this.#open(path);
  }

  #known(path: BytePath): number | undefined {
    if (path === '') return this.rootFd;
    const fd = this.#folders.get(path);
    if (fd !== undefined) {
      // The one used longest ago comes first.
      this.#folders.delete(path);
      this.#folders.set(path, fd);
    }
    return fd;
  }

  #open(path: BytePath): number {
    const fd = openInRoot(this.rootFd, path === '' ? '.' : pathBytes(path), O_PATH | O_DIRECTORY);
    const [oldest] = this.#folders;
    if (this.#folders.size >= maxOpenFolders && oldest !== undefined) {
      this.#folders.delete(oldest[0]);
      closeSync(oldest[1]);
    }
    this.#folders.set(path, fd);
    return fd;
  }

  #forgetFolders(except?: number): void {
    for (const [path, fd] of this.#folders) {
      if (fd === except) continue;
      this.#folders.delete(path);
      closeSync(fd);
    }
  }
}

function clearAt(folderFd: number, path: BytePath, keep: Pick<NameSet, 'has'>): void {
  for (const child of readdirSync(`/proc/self/fd/${folderFd}`, { encoding: 'latin1' })) {
    const childPath = path === '' ? child : `${path}/${child}`;
    if (!keep.has(childPath)) removeAt(folderFd, pathBytes(child));
    else if (isFolder(statAt(folderFd, pathBytes(child)))) {
      const fd = openat2(folderFd, pathBytes(child), { flags: O_PATH | O_DIRECTORY | O_NOFOLLOW });
      try {
        clearAt(fd, childPath, keep);
      } finally {
        closeSync(fd);
      }
    }
  }
}

function removeAt(folderFd: number, name: string | Buffer): void {
  try {
    unlinkat(folderFd, name);
    return;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    if (!hasCode(error, 'EISDIR', 'EPERM')) throw error;
  }
  const fd = openat2(folderFd, name, { flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW });
  try {
    for (const child of readdirSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' })) removeAt(fd, child);
  } finally {
    closeSync(fd);
  }
  unlinkat(folderFd, name, AT_REMOVEDIR);
}
