/** JSON.rawJSON of ES2026, which the compiler's library does not describe yet. */
const json = JSON as unknown as { rawJSON(text: string): object };

/** Replacer for JSON.stringify: a bigint becomes a number with all its digits. */
export function writeExactIntegers(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? json.rawJSON(value.toString()) : value;
}

/** Reviver for JSON.parse: an integer that a number cannot hold becomes a bigint. */
export function readExactIntegers(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value) || context?.source === undefined) return value;
  return /^-?\d+$/.test(context.source) ? BigInt(context.source) : value;
}
