import { readFileSync } from 'node:fs';
import { bind, bindAsync, invoke } from './libc.ts';

const MADV_DONTNEED = 4;

const c = {
  trim: bindAsync<[pad: number]>('int malloc_trim(size_t pad)'),
  madvise: bind<(address: bigint, length: bigint, advice: number) => number>(
    'int madvise(uint64_t addr, size_t length, int advice)',
  ),
};

/**
 * Makes the daemon small after work that comes seldom (its start, the pull of an image): gives back memory that is free
 * inside the C library's heap, and the pages of Node's own program that were only needed for that work. The page cache
 * still has them, so a later use costs a minor fault.
 */
export async function releaseUnusedMemory(): Promise<void> {
  await c.trim('malloc_trim', undefined, 0);
  for (const { start, end } of programPages(readFileSync('/proc/self/smaps', 'latin1'), process.execPath)) {
    invoke('madvise', undefined, () => c.madvise(start, end - start, MADV_DONTNEED));
  }
}

/**
 * The mappings of a program that hold nothing but its file: not writable, and never written (relocations make private
 * copies, which must not be dropped). `smaps` is a proc_pid_smaps(5).
 */
export function programPages(smaps: string, program: string): { start: bigint; end: bigint }[] {
  const header = /^([0-9a-f]+)-([0-9a-f]+) (r-[x-]p) \S+ \S+ \d+ +(.+)$/;
  const found: { start: bigint; end: bigint }[] = [];
  let current: { start: bigint; end: bigint } | undefined;
  for (const line of smaps.split('\n')) {
    if (/^[0-9a-f]+-/.test(line)) {
      const [, start = '', end = '', , path] = header.exec(line) ?? [];
      current = path === program ? { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) } : undefined;
    } else if (current !== undefined && /^Anonymous: +0 kB$/.test(line)) found.push(current);
  }
  return found;
}
