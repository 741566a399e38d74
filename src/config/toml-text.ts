import { formatDuration } from './go-duration.ts';
import type { OptionType } from './option.ts';
import { formatInt } from './value.ts';

/** A basic string of TOML. */
export function quoteToml(text: string): string {
  return `"${text.replace(/["\\\u0000-\u001f\u007f]/g, escapeCharacter)}"`;
}

const shortEscapes: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\b', '\\b'],
  ['\t', '\\t'],
  ['\n', '\\n'],
  ['\f', '\\f'],
  ['\r', '\\r'],
]);

function escapeCharacter(character: string): string {
  return shortEscapes.get(character) ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0').toUpperCase()}`;
}

/** A key as it is, or quoted when it is not bare. */
export function tomlKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : quoteToml(key);
}

/** One value on one line; tables are the business of the printers. */
export function tomlScalar(type: OptionType, value: unknown): string {
  if (typeof value === 'number') {
    if (type === 'duration') return quoteToml(formatDuration(value));
    return formatInt(value, type === 'uint' ? 'uint' : 'int');
  }
  if (typeof value === 'boolean') return String(value);
  return quoteToml(String(value));
}

/** Items of a list in the order given, for printers to lay out. */
export function tomlItems(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map((item) => quoteToml(String(item))) : [];
}
