import { closeSync, fchmodSync, fchownSync, writeSync } from 'node:fs';
import { hasCode, wrap } from '../../base/errors.ts';
import type { CrioError } from '../../base/errors.ts';
import {
  AT_EMPTY_PATH,
  fchmodat,
  fchownat,
  linkat,
  makeDevice,
  mkdirat,
  mknodat,
  symlinkat,
  utimensat,
} from '../../sys/file.ts';
import { fsetxattr, lsetxattr } from '../../sys/xattr.ts';
import { pathInRoot, splitPath } from './clean-path.ts';
import type { BytePath } from './clean-path.ts';
import { FolderTimes } from './folder-times.ts';
import { isFolder } from './layer-tree.ts';
import type { LayerTree, Place } from './layer-tree.ts';
import { TarError, showName } from './tar-header.ts';
import type { TarEntry } from './tar-reader.ts';
import { NameSet } from './unique-names.ts';

const whiteoutPrefix = '.wh.';
const opaqueMarker = '.wh..wh..opq';
const opaqueXattr = 'trusted.overlay.opaque';

const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFLNK = 0o120000;
const typeMask = 0o170000;
/** Permissions with setuid, setgid and sticky. */
const modeMask = 0o7777;
/** -1 would mean "leave as it is" to chown(2). */
const maxId = 0xfffffffe;

/** How a deletion that a layer asks for is stored: as overlay's marks, or by deleting from the copy of the parent. */
export type WhiteoutForm = 'overlay' | 'delete';

/**
 * Applies entries to a layer's tree, in their order: create, owner, mode, times, attributes. What is written for a file
 * comes in pieces between `start` and `end`. Times of folders are set by `finish`, as every entry below changes them.
 */
export class EntryPlacer {
  readonly #tree: LayerTree;
  readonly #whiteouts: WhiteoutForm;
  readonly #warn: (message: string) => void;
  readonly #folderTimes = new FolderTimes();
  /** With `delete`: what this layer brought, and the folders above it. */
  readonly #placed = new NameSet();
  #file: { readonly fd: number; readonly entry: TarEntry } | undefined;
  #inodes = 0;

  constructor(tree: LayerTree, options: { whiteouts: WhiteoutForm; warn: (message: string) => void }) {
    this.#tree = tree;
    this.#whiteouts = options.whiteouts;
    this.#warn = options.warn;
  }

  /** Files and folders made so far; another name of a file is none. */
  get inodes(): number {
    return this.#inodes + this.#tree.implicitFolders;
  }

  start(entry: TarEntry): void {
    if (entry.type === 'global') return;
    try {
      this.#start(entry);
    } catch (error) {
      throw wrapEntry(entry, error);
    }
  }

  data(bytes: Uint8Array): void {
    const file = this.#file;
    if (file === undefined) return;
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(file.fd, bytes, at, bytes.length - at);
    } catch (error) {
      throw wrapEntry(file.entry, error);
    }
  }

  end(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    try {
      this.#finishFile(file.fd, file.entry);
    } catch (error) {
      throw wrapEntry(file.entry, error);
    } finally {
      closeSync(file.fd);
    }
  }

  finish(): void {
    for (const times of this.#folderTimes) {
      try {
        const place = this.#tree.existing(times.path);
        const stat = this.#tree.stat(place);
        if (stat !== undefined && isFolder(stat)) setTimes(place, times);
      } catch (error) {
        // A later entry may have taken the folder, or what was above it, away.
        if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw wrap(`set times of "${times.path}"`, error);
      }
    }
  }

  /** Closes a file that an error left open. */
  abort(): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
  }

  #start(entry: TarEntry): void {
    const path = pathInRoot(entry.path);
    if (path === '') return;
    const [folder, name] = splitPath(path);
    if (name.startsWith(whiteoutPrefix)) this.#whiteout(entry, folder, name);
    else this.#create(entry, path);
  }

  #create(entry: TarEntry, path: BytePath): void {
    checkIds(entry);
    const place = this.#tree.place(path);
    // Above one that is there already, all are.
    if (this.#whiteouts === 'delete') for (let at = path; at !== '' && this.#placed.add(at);) [at] = splitPath(at);
    switch (entry.type) {
      case 'file':
        this.#file = { fd: this.#tree.replacing(place, () => this.#tree.createFile(place)), entry };
        break;
      case 'directory':
        this.#createFolder(place, entry);
        break;
      case 'symlink':
        this.#tree.replacing(place, () => symlinkat(symlinkTarget(entry), place.folderFd, place.name));
        setOwner(place, entry);
        break;
      case 'link':
        this.#createLink(place, entry);
        return;
      case 'char':
      case 'block':
      case 'fifo':
        this.#tree.replacing(place, () =>
          mknodat(place.folderFd, place.name, nodeType(entry) | 0o600, deviceOf(entry)),
        );
        setOwner(place, entry);
        fchmodat(place.folderFd, place.name, entry.mode & modeMask);
        break;
      default:
        throw new TarError(`unhandled tar header type "${entry.typeFlag}"`);
    }
    this.#inodes += 1;
    if (entry.type !== 'file' && entry.type !== 'directory') this.#setTimesAndXattrs(place, entry);
  }

  #createFolder(place: Place, entry: TarEntry): void {
    try {
      mkdirat(place.folderFd, place.name, 0o700);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
      this.#inodes -= this.#keepFolder(place) ? 1 : 0;
    }
    setOwner(place, entry);
    fchmodat(place.folderFd, place.name, entry.mode & modeMask);
    this.#setXattrs(place, entry);
    this.#folderTimes.add({ path: place.path, atimeNs: entry.atimeNs, mtimeNs: entry.mtimeNs });
  }

  /** A folder over a folder keeps what is in it; over anything else it replaces that. True when it was kept. */
  #keepFolder(place: Place): boolean {
    const there = this.#tree.stat(place);
    if (there !== undefined && isFolder(there)) return true;
    this.#tree.remove(place);
    mkdirat(place.folderFd, place.name, 0o700);
    return false;
  }

  /** Owner, mode and times of the entry go to the file that both names share. */
  #createLink(place: Place, entry: TarEntry): void {
    const targetPath = pathInRoot(entry.linkName.toString('latin1'));
    if (targetPath === '') throw new TarError('hard link to the root');
    const link = () => {
      const target = this.#tree.existing(targetPath);
      linkat(target.folderFd, target.name, place.folderFd, place.name);
    };
    this.#tree.replacing(place, link);
    setOwner(place, entry);
    const isSymlink = ((this.#tree.stat(place)?.mode ?? 0) & typeMask) === S_IFLNK;
    if (!isSymlink) fchmodat(place.folderFd, place.name, entry.mode & modeMask);
    this.#setTimesAndXattrs(place, entry);
  }

  #whiteout(entry: TarEntry, folder: BytePath, name: BytePath): void {
    const isOpaque = name === opaqueMarker;
    const target = name.slice(whiteoutPrefix.length);
    if (!isOpaque && ['', '.', '..'].includes(target)) throw new TarError('whiteout without a name');
    const path = folder === '' ? target : `${folder}/${target}`;
    if (this.#whiteouts === 'overlay') {
      if (isOpaque) this.#markOpaque(folder);
      else this.#markDeleted(path, entry);
    } else if (isOpaque) this.#tree.clearFolder(folder, this.#placed);
    else this.#tree.removeIfThere(path);
  }

  #markOpaque(folder: BytePath): void {
    // A name below the folder: its folder is made if need be.
    const { folderFd } = this.#tree.place(folder === '' ? opaqueMarker : `${folder}/${opaqueMarker}`);
    lsetxattr(`/proc/self/fd/${folderFd}/.`, opaqueXattr, Buffer.from('y'));
  }

  #markDeleted(path: BytePath, entry: TarEntry): void {
    checkIds(entry);
    let place: Place;
    try {
      place = this.#tree.place(path);
    } catch (error) {
      if (hasCode(error, 'ENOTDIR')) return;
      throw error;
    }
    mknodat(place.folderFd, place.name, S_IFCHR, 0n);
    this.#inodes += 1;
    setOwner(place, entry);
  }

  #finishFile(fd: number, entry: TarEntry): void {
    fchownSync(fd, entry.uid, entry.gid);
    fchmodSync(fd, entry.mode & modeMask);
    utimensat(fd, '', timesOf(entry), AT_EMPTY_PATH);
    for (const [name, value] of entry.xattrs) this.#setXattr(entry, name, () => fsetxattr(fd, name, value));
  }

  #setTimesAndXattrs(place: Place, entry: TarEntry): void {
    setTimes(place, entry);
    this.#setXattrs(place, entry);
  }

  #setXattrs(place: Place, entry: TarEntry): void {
    if (entry.xattrs.size === 0) return;
    const path = Buffer.concat([Buffer.from(`/proc/self/fd/${place.folderFd}/`), Buffer.from(place.name)]);
    for (const [name, value] of entry.xattrs) this.#setXattr(entry, name, () => lsetxattr(path, name, value));
  }

  #setXattr(entry: TarEntry, name: string, set: () => void): void {
    // The label belongs to the host's policy, and overlay's own marks to whoever mounts it.
    if (name === 'security.selinux' || /^(?:trusted|user)\.overlay\./.test(name)) return;
    try {
      set();
    } catch (error) {
      if (!hasCode(error, 'ENOTSUP', 'EOPNOTSUPP')) throw wrap(`set attribute "${name}"`, error);
      this.#warn(`the file system does not take attribute "${name}" of "${showName(entry.name)}"`);
    }
  }
}

function checkIds(entry: TarEntry): void {
  for (const id of [entry.uid, entry.gid]) if (id < 0 || id > maxId) throw new TarError(`id ${id} is out of range`);
}

function symlinkTarget(entry: TarEntry): Buffer {
  if (entry.linkName.length === 0) throw new TarError('symlink without a target');
  return entry.linkName;
}

function nodeType(entry: TarEntry): number {
  if (entry.type === 'fifo') return S_IFIFO;
  return entry.type === 'char' ? S_IFCHR : S_IFBLK;
}

function deviceOf(entry: TarEntry): bigint {
  return entry.type === 'fifo' ? 0n : makeDevice(entry.deviceMajor, entry.deviceMinor);
}

function setOwner(place: Place, entry: TarEntry): void {
  fchownat(place.folderFd, place.name, entry.uid, entry.gid);
}

function setTimes(place: Place, times: Times): void {
  utimensat(place.folderFd, place.name, timesOf(times));
}

type Times = Pick<TarEntry, 'atimeNs' | 'mtimeNs'>;

function timesOf({ atimeNs, mtimeNs }: Times): { atimeNs: bigint; mtimeNs: bigint } {
  return { atimeNs: atimeNs > mtimeNs ? atimeNs : mtimeNs, mtimeNs };
}

function wrapEntry(entry: TarEntry, error: unknown): CrioError {
  return wrap(`unpack "${showName(entry.name)}"`, error, error instanceof TarError ? 'invalid' : undefined);
}
