import { randomBytes } from 'node:crypto';
import { cleanPath } from './clean-path.ts';
import { TarError, showName } from './tar-header.ts';
import type { TarEntry } from './tar-reader.ts';

const firstCapacity = 1 << 12;

/** More than any image has; a table for these takes 128 MiB. */
const maxNames = 8_000_000;

/**
 * A set of names, of which an archive may have millions: only a hash of 64 bits is kept of each, outside of the heap. Two
 * different names have one hash once in millions of the largest archives.
 */
export class NameSet {
  /** Open addressing: the two halves of each hash; 0, 0 is a free place. */
  #high = new Uint32Array(firstCapacity);
  #low = new Uint32Array(firstCapacity);
  #size = 0;
  readonly #limit: number;
  /** Nobody can make names that have one hash, or all begin at one place of the table. */
  readonly #seeds: Seeds = [randomBytes(4).readInt32LE(), randomBytes(4).readInt32LE()];

  constructor(limit = maxNames) {
    this.#limit = limit;
  }

  /** False when it is there already. Throws when there are too many. */
  add(name: string): boolean {
    const [high, low] = hash64(name, this.#seeds);
    if (!this.#insert(high, low)) return false;
    this.#size += 1;
    if (this.#size > this.#limit) throw new TarError(`more than ${this.#limit} different names`);
    if (this.#size * 2 > this.#high.length) this.#grow();
    return true;
  }

  has(name: string): boolean {
    const [high, low] = hash64(name, this.#seeds);
    const at = this.#find(high, low);
    return this.#high[at] === high && this.#low[at] === low;
  }

  /** Where it is, or the free place where it would be. */
  #find(high: number, low: number): number {
    const mask = this.#high.length - 1;
    for (let at = low & mask; ; at = (at + 1) & mask) {
      if (this.#high[at] === high && this.#low[at] === low) return at;
      if (this.#high[at] === 0 && this.#low[at] === 0) return at;
    }
  }

  #insert(high: number, low: number): boolean {
    const at = this.#find(high, low);
    if (this.#high[at] === high && this.#low[at] === low) return false;
    this.#high[at] = high;
    this.#low[at] = low;
    return true;
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

/**
 * Names must be unique in an archive: the description for its reassembly knows files by name only. Names with one hash
 * are refused like equal ones.
 */
export class UniqueNames {
  readonly #names = new NameSet();

  add(entry: TarEntry): void {
    if (!this.#names.add(cleanPath(entry.path)))
      throw new TarError(`duplicates of file paths not supported: "${showName(entry.name)}"`);
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
