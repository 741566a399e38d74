const factor: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40, P: 2 ** 50 };

/** Smallest memory limit of a handler that names none, in bytes. */
export const defaultMinMemory = 12 * 2 ** 20;

/**
 * Bytes of `container_min_memory`: a number alone, with `B`, or with K, M, G, T or P alone or followed by `B` or `iB`,
 * always binary, in any case. Undefined when it is none of these.
 */
export function parseMemory(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(?:([KMGTP])(?:I?B)?|B)?$/.exec(text.toUpperCase());
  const unit = factor[match?.[2] ?? ''];
  return match === null || unit === undefined ? undefined : Math.trunc(Number(match[1]) * unit);
}
