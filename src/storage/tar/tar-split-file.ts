import { closeSync, openSync, writeSync } from 'node:fs';
import { Gzip } from '../../sys/zlib.ts';
import { TarSplitWriter } from './tar-split.ts';

/** Lines are compressed in pieces of this many characters. */
const batchSize = 32 * 1024;
/** For what comes out of gzip; jobs of a thread share it, as each write is over before the next. */
const output = Buffer.alloc(64 * 1024);

/** Gzip of the description, to a new file. It is on disk when the layer's content is: both are synced before the index names them. */
export class TarSplitFile implements Disposable {
  readonly writer: TarSplitWriter;
  readonly #fd: number;
  readonly #gzip = new Gzip(1, output);
  #batch = '';
  #isOpen = true;

  constructor(path: string) {
    this.#fd = openSync(path, 'wx', 0o600);
    this.writer = new TarSplitWriter((line) => this.#add(line));
  }

  end(): void {
    this.writer.end();
    this.#flush();
    this.#gzip.end((piece) => this.#write(piece));
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#gzip[Symbol.dispose]();
    closeSync(this.#fd);
  }

  #add(line: string): void {
    this.#batch += line;
    if (this.#batch.length >= batchSize) this.#flush();
  }

  #flush(): void {
    this.#gzip.push(Buffer.from(this.#batch), (piece) => this.#write(piece));
    this.#batch = '';
  }

  #write(piece: Buffer): void {
    for (let at = 0; at < piece.length;) at += writeSync(this.#fd, piece, at);
  }
}
