/** A value of JSON as parsed; what another program wrote is copied from here into own types. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `Array.isArray` makes `any[]` of a readonly array. */
export function isJsonArray(value: unknown): value is readonly Json[] {
  return Array.isArray(value);
}

/**
 * JSON text as Go's encoding/json writes a map: keys sorted bytewise, `<`, `>`, `&`, U+2028 and U+2029 escaped, no white
 * space. Members that are `undefined` are left out. Files that CRI-O's libraries share are compared byte for byte.
 */
export function goJson(value: unknown): string {
  return escapeForHtml(JSON.stringify(sortKeys(value)));
}

/** The escapes Go adds to JSON text; only strings can hold these characters. */
export function escapeForHtml(json: string): string {
  return json.replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => compareBytes(a, b));
  // fromEntries defines own members, so a key "__proto__" stays data.
  return Object.fromEntries(entries.map(([key, member]) => [key, sortKeys(member)]));
}

/** Order of UTF-8 bytes, as Go compares strings; differs from UTF-16 order only above the basic plane. */
export function compareBytes(a: string, b: string): number {
  if (a === b) return 0;
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
