import type { BytePath } from './clean-path.ts';
import { TarError } from './tar-header.ts';

/** Bytes of all folders' paths of a layer: some 800,000 folders. More is no image, but an attack on memory. */
const maxPathBytes = 64 * 1024 * 1024;
const blockBytes = 256 * 1024;

export interface FolderTime {
  readonly path: BytePath;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
}

/** Times of folders, to be set when everything is in them. Kept as bytes outside of the heap, as there may be very many. */
export class FolderTimes {
  /** One after another: length of the path, both times, the path. */
  readonly #blocks: Buffer[] = [];
  #end = blockBytes;
  #pathBytes = 0;

  add({ path, atimeNs, mtimeNs }: FolderTime): void {
    this.#pathBytes += path.length;
    if (this.#pathBytes > maxPathBytes) throw new TarError(`more than ${maxPathBytes} bytes of folder names`);
    const length = 20 + path.length;
    const block = this.#room(length);
    block.writeUInt32LE(path.length, this.#end);
    block.writeBigInt64LE(BigInt.asIntN(64, atimeNs), this.#end + 4);
    block.writeBigInt64LE(BigInt.asIntN(64, mtimeNs), this.#end + 12);
    block.write(path, this.#end + 20, 'latin1');
    this.#end += length;
  }

  /** In the order they came. */
  *[Symbol.iterator](): Iterator<FolderTime> {
    for (const block of this.#blocks) {
      for (let at = 0; at + 20 <= block.length;) {
        const length = block.readUInt32LE(at);
        if (length === 0) break;
        yield {
          path: block.toString('latin1', at + 20, at + 20 + length),
          atimeNs: block.readBigInt64LE(at + 4),
          mtimeNs: block.readBigInt64LE(at + 12),
        };
        at += 20 + length;
      }
    }
  }

  /** The last block, with this much free after `#end`. */
  #room(length: number): Buffer {
    const last = this.#blocks.at(-1);
    if (last !== undefined && this.#end + length <= last.length) return last;
    const block = Buffer.alloc(Math.max(blockBytes, length));
    this.#blocks.push(block);
    this.#end = 0;
    return block;
  }
}
