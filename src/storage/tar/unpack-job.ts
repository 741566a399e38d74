import { createHash } from 'node:crypto';
import { FreeSpaceGuard } from '../../base/free-space.ts';
import type { Decoder } from '../../sys/decoder.ts';
import { createDecompressor, detectCompression, magicLength } from '../../sys/decompress.ts';
import type { Compression } from '../../sys/decompress.ts';
import type { UnpackedContent } from '../staged-layer.ts';
import { scratch } from './crc64.ts';
import { LayerTree } from './layer-tree.ts';
import { EntryPlacer } from './place-entry.ts';
import type { WhiteoutForm } from './place-entry.ts';
import { TarError } from './tar-header.ts';
import { TarReader } from './tar-reader.ts';
import type { TarEntry, TarHandler } from './tar-reader.ts';
import { TarSplitFile } from './tar-split-file.ts';
import { UniqueNames } from './unique-names.ts';

/** They are listed in the layer's record, which every program reads that uses the store. */
const maxOwners = 16_384;

export interface UnpackJobOptions {
  /** Folder to unpack into; it exists. */
  readonly diffFolder: string;
  /** File for the gzipped tar-split description; it is created. */
  readonly tarSplit: string;
  readonly whiteouts: WhiteoutForm;
  readonly warn: (message: string) => void;
}

/**
 * Unpacks one blob that is pushed in: decompress, hash both forms, place the entries, describe the archive. All of it is
 * synchronous, so it runs in a worker, and several jobs can share the thread's scratch memory. Any error ends the job;
 * `dispose` frees what it holds.
 */
export class UnpackJob implements Disposable {
  readonly #tree: LayerTree;
  readonly #placer: EntryPlacer;
  readonly #tarSplit: TarSplitFile;
  readonly #reader: TarReader;
  readonly #space: FreeSpaceGuard;
  readonly #uids = new Set<number>();
  readonly #gids = new Set<number>();
  readonly #compressedHash = createHash('sha256');
  readonly #plainHash = createHash('sha256');
  #compressedSize = 0;
  #plainSize = 0;
  /** The first bytes, until there are enough to tell the compression. */
  #start: Buffer | undefined = Buffer.alloc(0);
  #compression: Compression = 'none';
  #decompressor: Decoder | undefined;

  constructor(options: UnpackJobOptions) {
    using undo = new DisposableStack();
    this.#tree = undo.use(new LayerTree(options.diffFolder));
    this.#tarSplit = undo.use(new TarSplitFile(options.tarSplit));
    this.#placer = new EntryPlacer(this.#tree, options);
    this.#space = new FreeSpaceGuard(options.diffFolder, 'unpacking');
    this.#reader = new TarReader(this.#createHandler());
    undo.move();
  }

  push(chunk: Buffer): void {
    this.#compressedHash.update(chunk);
    this.#compressedSize += chunk.length;
    if (this.#start === undefined) {
      this.#feed(chunk);
      return;
    }
    this.#start = Buffer.concat([this.#start, chunk]);
    if (this.#start.length >= magicLength) this.#begin();
  }

  end(): UnpackedContent {
    if (this.#start !== undefined) this.#begin();
    for (const piece of this.#decompressor?.finish() ?? []) this.#plain(piece);
    this.#reader.end();
    this.#placer.finish();
    this.#tarSplit.end();
    return {
      diffDigest: `sha256:${this.#plainHash.digest('hex')}`,
      diffSize: this.#plainSize,
      compressedDigest: `sha256:${this.#compressedHash.digest('hex')}`,
      compressedSize: this.#compressedSize,
      compression: this.#compression,
      uids: sorted(this.#uids),
      gids: sorted(this.#gids),
      inodes: this.#placer.inodes,
    };
  }

  [Symbol.dispose](): void {
    this.#decompressor?.[Symbol.dispose]();
    this.#placer.abort();
    this.#tarSplit[Symbol.dispose]();
    this.#tree[Symbol.dispose]();
  }

  #begin(): void {
    const start = this.#start ?? Buffer.alloc(0);
    this.#start = undefined;
    this.#compression = detectCompression(start);
    this.#decompressor = createDecompressor(this.#compression, scratch);
    this.#feed(start);
  }

  #feed(chunk: Buffer): void {
    if (this.#decompressor === undefined) this.#plain(chunk);
    else for (const piece of this.#decompressor.decode(chunk)) this.#plain(piece);
  }

  #plain(piece: Buffer): void {
    this.#plainHash.update(piece);
    this.#plainSize += piece.length;
    this.#reader.push(piece);
  }

  #createHandler(): TarHandler {
    const names = new UniqueNames();
    const split = this.#tarSplit.writer;
    return {
      raw: (bytes) => {
        // It goes to the tar-split file.
        this.#space.wrote(bytes.length);
        split.raw(bytes);
      },
      entry: (entry) => {
        names.add(entry);
        split.startFile(entry.name, entry.payload);
        this.#countIds(entry);
        this.#place(entry);
      },
      data: (bytes) => {
        split.data(bytes);
        this.#space.wrote(bytes.length);
        this.#placer.data(bytes);
      },
      entryEnd: () => {
        split.endFile();
        this.#placer.end();
      },
    };
  }

  /** A single name may stand for thousands of folders above it, and attributes take room like content. */
  #place(entry: TarEntry): void {
    const before = this.#placer.inodes;
    for (const value of entry.xattrs.values()) this.#space.wrote(value.length);
    this.#placer.start(entry);
    this.#space.placed(Math.max(1, this.#placer.inodes - before));
  }

  #countIds(entry: TarEntry): void {
    if (entry.path.startsWith('.wh.', entry.path.lastIndexOf('/') + 1)) return;
    this.#uids.add(entry.uid);
    this.#gids.add(entry.gid);
    if (this.#uids.size > maxOwners || this.#gids.size > maxOwners)
      throw new TarError(`more than ${maxOwners} different owners`);
  }
}

function sorted(ids: ReadonlySet<number>): number[] {
  return [...ids].sort((a, b) => a - b);
}
