import { createHash } from 'node:crypto';
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { Compression } from '../index/layer-record.ts';
import type { UnpackedContent } from '../staged-layer.ts';
import { createDecompressor, decompressChunk, detectCompression, magicLength } from './decompress.ts';
import { FreeSpaceGuard } from './free-space.ts';
import { LayerTree } from './layer-tree.ts';
import { EntryPlacer } from './place-entry.ts';
import type { WhiteoutForm } from './place-entry.ts';
import { TarError } from './tar-header.ts';
import { TarReader } from './tar-reader.ts';
import type { TarEntry, TarHandler } from './tar-reader.ts';
import { TarSplitWriter } from './tar-split.ts';
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
 * Unpacks one blob that is pushed in: decompress, hash both forms, place the entries, describe the archive. File system
 * calls are synchronous, so it runs in a worker. Any error ends the job; `dispose` frees what it holds.
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
  #decompressor: Duplex | undefined;
  #decompressed: Promise<void> = Promise.resolve();

  constructor(options: UnpackJobOptions) {
    using undo = new DisposableStack();
    this.#tree = undo.use(new LayerTree(options.diffFolder));
    this.#tarSplit = undo.use(new TarSplitFile(options.tarSplit));
    this.#placer = new EntryPlacer(this.#tree, options);
    this.#space = new FreeSpaceGuard(options.diffFolder);
    this.#reader = new TarReader(this.#createHandler());
    undo.move();
  }

  /** Resolves when the next piece may come. */
  async push(chunk: Buffer): Promise<void> {
    this.#compressedHash.update(chunk);
    this.#compressedSize += chunk.length;
    if (this.#start === undefined) return this.#feed(chunk);
    this.#start = Buffer.concat([this.#start, chunk]);
    if (this.#start.length >= magicLength) await this.#begin();
  }

  async end(): Promise<UnpackedContent> {
    if (this.#start !== undefined) await this.#begin();
    this.#decompressor?.end();
    await this.#decompressed;
    this.#reader.end();
    this.#placer.finish();
    await this.#tarSplit.end();
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
    this.#decompressor?.destroy();
    this.#placer.abort();
    this.#tarSplit[Symbol.dispose]();
    this.#tree[Symbol.dispose]();
  }

  async #begin(): Promise<void> {
    const start = this.#start ?? Buffer.alloc(0);
    this.#start = undefined;
    this.#compression = detectCompression(start);
    this.#decompressor = createDecompressor(this.#compression);
    if (this.#decompressor !== undefined) {
      this.#decompressed = this.#drain(this.#decompressor);
      // The next `push` or `end` reports an error; until then nobody waits for it.
      this.#decompressed.catch(() => undefined);
    }
    await this.#feed(start);
  }

  async #feed(chunk: Buffer): Promise<void> {
    const decompressor = this.#decompressor;
    if (decompressor === undefined) {
      this.#plain(chunk);
      return this.#tarSplit.room();
    }
    if (decompressor.write(chunk)) return;
    // An error must reach the caller here, or it would wait for room for ever.
    const room = new Promise<void>((resolve) => decompressor.once('drain', resolve));
    await Promise.race([room, this.#decompressed]);
  }

  async #drain(decompressor: Duplex): Promise<void> {
    for await (const chunk of decompressor) {
      this.#plain(chunk);
      await this.#tarSplit.room();
    }
  }

  #plain(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; at += decompressChunk) {
      const piece = chunk.subarray(at, at + decompressChunk);
      this.#plainHash.update(piece);
      this.#plainSize += piece.length;
      this.#reader.push(piece);
    }
  }

  #createHandler(): TarHandler {
    const names = new UniqueNames();
    const split = this.#tarSplit.writer;
    return {
      raw: (bytes) => split.raw(bytes),
      entry: (entry) => {
        names.add(entry);
        split.startFile(entry.name, entry.payload);
        this.#countIds(entry);
        this.#placer.start(entry);
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

/** Lines are compressed in pieces of this size: each piece is a trip to another thread. */
const batchSize = 128 * 1024;

/** Gzip of the description, to a new file that is synced at the end. */
class TarSplitFile implements Disposable {
  readonly writer: TarSplitWriter;
  readonly #fd: number;
  readonly #gzip = createGzip({ level: 1, chunkSize: 64 * 1024 });
  readonly #written: Promise<void>;
  #batch: string[] = [];
  #batchLength = 0;
  #isOpen = true;

  constructor(path: string) {
    this.#fd = openSync(path, 'wx', 0o600);
    this.writer = new TarSplitWriter((line) => this.#add(line));
    this.#written = this.#copy();
    // An error is reported by `end`.
    this.#written.catch(() => undefined);
  }

  /** Resolves when what was written does not pile up in memory. */
  async room(): Promise<void> {
    if (!this.#gzip.writableNeedDrain) return;
    const drained = new Promise<void>((resolve) => this.#gzip.once('drain', resolve));
    await Promise.race([drained, this.#written]);
  }

  async end(): Promise<void> {
    this.writer.end();
    this.#flush();
    this.#gzip.end();
    await this.#written;
    fdatasyncSync(this.#fd);
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#gzip.destroy();
    closeSync(this.#fd);
  }

  #add(line: string): void {
    this.#batch.push(line);
    this.#batchLength += line.length;
    if (this.#batchLength >= batchSize) this.#flush();
  }

  #flush(): void {
    this.#gzip.write(this.#batch.join(''));
    this.#batch = [];
    this.#batchLength = 0;
  }

  async #copy(): Promise<void> {
    const chunks: AsyncIterable<Buffer> = this.#gzip;
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length;) at += writeSync(this.#fd, chunk, at);
    }
  }
}
