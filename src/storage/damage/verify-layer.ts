import { createHash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import { SysError, hasCode, messageOf } from '../../base/errors.ts';
import { O_NOFOLLOW, O_RDONLY } from '../../sys/arch.ts';
import { openat2, readlinkat } from '../../sys/file.ts';
import { pathInRoot, splitPath } from '../tar/clean-path.ts';
import { Crc64 } from '../tar/crc64.ts';
import { LayerTree } from '../tar/layer-tree.ts';
import type { Place } from '../tar/layer-tree.ts';
import { TarError, showName } from '../tar/tar-header.ts';
import { TarReader } from '../tar/tar-reader.ts';
import type { TarEntry } from '../tar/tar-reader.ts';
import { DescriptionError, readTarSplit } from './read-tar-split.ts';

export interface LayerToVerify {
  readonly diffFolder: string;
  readonly tarSplit: string;
  /** Of the uncompressed archive */
  readonly diffDigest: string;
  /** Deletions are in the tree as overlay's marks; otherwise they have been carried out. */
  readonly hasWhiteouts: boolean;
}

/** What is wrong with a layer. */
export interface LayerFault {
  readonly reason: string;
  /** Its content may be whole; only what would prove that, and what a push needs, is missing. */
  readonly canRun: boolean;
}

const chunkSize = 256 * 1024;
/** A disk that cannot be read any more; file systems say EUCLEAN or EBADMSG when what they read cannot be true. */
const damagedDisk = ['EIO', 'EUCLEAN', 'EBADMSG', 'ENODATA'];
const typeMask = 0o170000;
const typeOf: Readonly<Record<string, number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  char: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
};

/** The disk's content is not what the archive said. */
class ContentError extends Error {}

/**
 * Puts the layer's archive together again from its description and its files, and compares every entry with what is on
 * disk and the whole with the digest. `pace` is told how many bytes were read, and may take its time.
 */
export async function verifyLayer(
  layer: LayerToVerify,
  pace: (bytes: number) => Promise<void> = async () => undefined,
): Promise<LayerFault | undefined> {
  try {
    await verify(layer, pace);
    return undefined;
  } catch (error) {
    if (error instanceof ContentError) return { reason: error.message, canRun: false };
    if (error instanceof DescriptionError || error instanceof TarError || isZlibError(error)) {
      return { reason: `its tar-split description cannot be read: ${messageOf(error)}`, canRun: true };
    }
    if (hasCode(error, 'ENOENT') && pathOf(error) === layer.tarSplit)
      return { reason: 'its tar-split description is missing', canRun: true };
    if (hasCode(error, 'ENOENT', 'ENOTDIR') && pathOf(error) === layer.diffFolder)
      return { reason: 'its content is missing', canRun: false };
    if (hasCode(error, ...damagedDisk)) return { reason: messageOf(error), canRun: false };
    throw error;
  }
}

async function verify(layer: LayerToVerify, pace: (bytes: number) => Promise<void>): Promise<void> {
  using tree = new LayerTree(layer.diffFolder);
  const check = new TreeCheck(tree, layer.hasWhiteouts);
  const hash = createHash('sha256');
  const reader = new TarReader({
    raw: () => undefined,
    entry: (entry) => check.entry(entry),
    data: () => undefined,
    entryEnd: () => undefined,
  });
  await readTarSplit(layer.tarSplit, async (item) => {
    if (item.kind === 'raw') {
      hash.update(item.bytes);
      reader.push(item.bytes);
      return pace(item.bytes.length);
    }
    if (item.size === 0) return undefined;
    const checksum = new Crc64();
    const isWhole = await check.readFile(item.size, async (piece) => {
      hash.update(piece);
      checksum.update(piece);
      reader.push(piece);
      await pace(piece.length);
    });
    if (!isWhole || (item.checksum !== undefined && !checksum.digest().equals(item.checksum))) check.contentChanged();
    return undefined;
  });
  reader.end();
  check.end();
  const digest = `sha256:${hash.digest('hex')}`;
  if (digest !== layer.diffDigest)
    throw new ContentError(`its content has digest ${digest} instead of ${layer.diffDigest}`);
}

/** Compares entries with a tree. Only what every program that unpacks agrees on: kind, size, content, link targets. */
class TreeCheck {
  readonly #tree: LayerTree;
  readonly #hasWhiteouts: boolean;
  #entry: TarEntry | undefined;
  /** How many entries wrote the file with this inode: a name through a link of the same archive may write it again. */
  readonly #writers = new Map<bigint, number>();
  #changed: { readonly name: string; readonly inode: bigint } | undefined;
  #inode = 0n;

  constructor(tree: LayerTree, hasWhiteouts: boolean) {
    this.#tree = tree;
    this.#hasWhiteouts = hasWhiteouts;
  }

  entry(entry: TarEntry): void {
    this.#entry = entry;
    if (entry.type === 'global') return;
    const path = pathInRoot(entry.path);
    if (path === '') return;
    const [folder, name] = splitPath(path);
    if (name.startsWith('.wh.')) this.#whiteout(entry, folder, name);
    else this.#check(entry, path);
  }

  /** Hands the content of the current entry over. False when its size is another. */
  async readFile(size: number, take: (piece: Buffer) => Promise<void>): Promise<boolean> {
    const entry = this.#entry;
    if (entry?.payload !== size) throw new DescriptionError('a file is not that of its header');
    const place = this.#place(entry, pathInRoot(entry.path));
    const fd = openat2(place.folderFd, place.name, { flags: O_RDONLY | O_NOFOLLOW });
    try {
      const buffer = Buffer.allocUnsafe(Math.min(chunkSize, size));
      for (let left = size; left > 0;) {
        const length = readSync(fd, buffer, 0, Math.min(buffer.length, left), null);
        if (length === 0) {
          // The archive goes on after this file.
          for (buffer.fill(0); left > 0; left -= Math.min(buffer.length, left))
            await take(buffer.subarray(0, Math.min(buffer.length, left)));
          return false;
        }
        left -= length;
        await take(buffer.subarray(0, length));
      }
      return true;
    } catch (error) {
      if (!hasCode(error, ...damagedDisk)) throw error;
      throw new ContentError(`"${showName(entry.name)}" cannot be read: ${messageOf(error)}`);
    } finally {
      closeSync(fd);
    }
  }

  contentChanged(): void {
    const entry = this.#entry;
    if (entry !== undefined) this.#changed ??= { name: showName(entry.name), inode: this.#inode };
  }

  end(): void {
    const changed = this.#changed;
    if (changed === undefined) return;
    if ((this.#writers.get(changed.inode) ?? 0) > 1)
      throw new DescriptionError(`"${changed.name}" was written twice by its archive`);
    throw new ContentError(`"${changed.name}" has another content`);
  }

  #check(entry: TarEntry, path: string): void {
    const place = this.#place(entry, path);
    const stat = this.#tree.stat(place);
    if (stat === undefined) throw new ContentError(`"${showName(entry.name)}" is missing`);
    if (entry.type === 'link') return;
    if ((stat.mode & typeMask) !== typeOf[entry.type])
      throw new ContentError(`"${showName(entry.name)}" is of another kind`);
    if (entry.type === 'symlink' && !readlinkat(place.folderFd, place.name).equals(entry.linkName))
      throw new ContentError(`"${showName(entry.name)}" leads elsewhere`);
    if (entry.type !== 'file') return;
    this.#inode = stat.inode;
    this.#writers.set(stat.inode, (this.#writers.get(stat.inode) ?? 0) + 1);
    if (stat.size !== BigInt(entry.payload)) this.contentChanged();
  }

  /** Overlay's mark under the name itself, or, from programs that mount in user space, a file under the entry's name. */
  #whiteout(entry: TarEntry, folder: string, name: string): void {
    if (!this.#hasWhiteouts || name === '.wh..wh..opq') return;
    const below = folder === '' ? '' : `${folder}/`;
    const isMarked = [name.slice('.wh.'.length), name].some((target) => this.#isThere(`${below}${target}`));
    if (!isMarked) throw new ContentError(`"${showName(entry.name)}" is missing`);
  }

  /** Below what is no folder there was nothing to delete. */
  #isThere(path: string): boolean {
    try {
      return this.#tree.stat(this.#tree.existing(path)) !== undefined;
    } catch (error) {
      if (hasCode(error, 'ENOTDIR')) return true;
      if (hasCode(error, 'ENOENT')) return false;
      throw error;
    }
  }

  #place(entry: TarEntry, path: string): Place {
    try {
      return this.#tree.existing(path);
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw error;
      throw new ContentError(`"${showName(entry.name)}" is missing`);
    }
  }
}

function isZlibError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('Z_');
}

function pathOf(error: unknown): string | undefined {
  if (error instanceof SysError) return error.path;
  return error instanceof Error && 'path' in error && typeof error.path === 'string' ? error.path : undefined;
}
