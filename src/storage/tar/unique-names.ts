import { randomBytes } from 'node:crypto';
import { cleanPath } from './clean-path.ts';
import { TarError, showName } from './tar-header.ts';
import type { TarEntry } from './tar-reader.ts';

const firstCapacity = 1 << 12;

/**
 * Names must be unique in an archive: the description for its reassembly knows files by name only. An archive may have
 * millions, so only a hash of 64 bits is kept of each, outside of the heap: two different names with one hash (once in
 * millions of the largest archives, or made on purpose) are refused like equal ones.
 */
export class UniqueNames {
  /** Open addressing: the two halves of each hash; 0, 0 is a free place. */
  #high = new Uint32Array(firstCapacity);
  #low = new Uint32Array(firstCapacity);
  #size = 0;
  /** Nobody can make names that all begin at one place of the table. */
  readonly #seeds: Seeds = [randomBytes(4).readInt32LE(), randomBytes(4).readInt32LE()];

  add(entry: TarEntry): void {
    const [high, low] = hash64(cleanPath(entry.path), this.#seeds);
    if (!this.#insert(high, low))
      throw new TarError(`duplicates of file paths not supported: "${showName(entry.name)}"`);
    this.#size += 1;
    if (this.#size * 2 > this.#high.length) this.#grow();
  }

  #insert(high: number, low: number): boolean {
    const mask = this.#high.length - 1;
    for (let at = low & mask; ; at = (at + 1) & mask) {
      if (this.#high[at] === high && this.#low[at] === low) return false;
      if (this.#high[at] !== 0 || this.#low[at] !== 0) continue;
      this.#high[at] = high;
      this.#low[at] = low;
      return true;
    }
  }

  #grow(): void {
    const [high, low] = [this.#high, this.#low];
    this.#high = new Uint32Array(high.length * 2);
    this.#low = new Uint32Array(low.length * 2);
    for (let at = 0; at < high.length; at++) {
      const [first, second] = [high[at] ?? 0, low[at] ?? 0];
      if (first !== 0 || second !== 0) this.#insert(first, second);
    }
  }
}

type Seeds = readonly [a: number, b: number];

/** cyrb53's mixing, with all 64 bits kept. Never 0, 0. */
function hash64(text: string, [seedA, seedB]: Seeds): readonly [number, number] {
  let a = 0xdeadbeef ^ seedA;
  let b = 0x41c6ce57 ^ seedB;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    a = Math.imul(a ^ code, 2654435761);
    b = Math.imul(b ^ code, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return [a >>> 0, b === 0 ? 1 : b >>> 0];
}
