import { parseDuration } from './go-duration.ts';
import type { OptionType } from './option.ts';

/** A value of a flag or an environment variable; undefined when the text is none of this type. */
export function parseValue(type: OptionType, text: string): string | boolean | number | readonly string[] | undefined {
  switch (type) {
    case 'bool':
      return parseBool(text);
    case 'int':
    case 'uint':
      return parseInteger(text);
    case 'duration':
      return parseDuration(text);
    case 'strings':
    case 'handlers':
      return text.split(',').map((item) => item.trim());
    default:
      return text;
  }
}

const booleans: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'TRUE', 'true', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'FALSE', 'false', 'False'].map((text) => [text, false] as const),
]);

export function parseBool(text: string): boolean | undefined {
  return booleans.get(text);
}

const integer = /^([+-]?)(0[xX][\da-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]*|[1-9][\d_]*)$/;

/** Go's integers: decimal, 0x, 0b, 0o or a leading 0 for octal, `_` between digits; 64 bits. */
function parseInteger(text: string): number | undefined {
  const match = integer.exec(text);
  const digits = match?.[2];
  if (digits === undefined || /__|_$/.test(digits)) return undefined;
  const plain = digits.replaceAll('_', '').replace(/^0(?=[0-7])/, '0o');
  const value = BigInt(plain) * (match?.[1] === '-' ? -1n : 1n);
  return BigInt.asIntN(64, value) === value ? Number(value) : undefined;
}

/** Integers beyond 2^53 lose digits in memory; what is printed stays in the range of 64 bits, so it can be read again. */
export function formatInt(value: number, type: 'int' | 'uint' = 'int'): string {
  const max = type === 'int' ? 2n ** 63n - 1n : 2n ** 64n - 1n;
  const exact = BigInt(Math.trunc(value));
  return String(exact > max ? max : exact);
}
