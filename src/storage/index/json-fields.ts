import type { IdMapping } from '../../pod/config.ts';

/** A JSON object as parsed; keys that this program does not know stay in it when it is written again. */
export type JsonObject = { [key: string]: unknown };

/** What is wrong with a record; the record is set aside, the rest of the file is used. */
export class FieldError extends Error {}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A string field; absent and null are the empty string. */
export function textField(raw: JsonObject, key: string): string {
  const value = raw[key] ?? '';
  if (typeof value !== 'string') throw new FieldError(`"${key}" is not a string`);
  return value;
}

export function optionalText(raw: JsonObject, key: string): string | undefined {
  return textField(raw, key) || undefined;
}

export function integerField(raw: JsonObject, key: string): number | undefined {
  const value = raw[key] ?? undefined;
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw new FieldError(`"${key}" is not an integer`);
  return value;
}

export function textListField(raw: JsonObject, key: string): readonly string[] {
  const value = raw[key] ?? [];
  if (!Array.isArray(value)) throw new FieldError(`"${key}" is not a list`);
  if (!value.every(isText)) throw new FieldError(`"${key}" holds something else than strings`);
  return value;
}

/** An object of numbers or of strings, as a Map: keys such as `__proto__` are plain keys there. */
export function mapField<T>(
  raw: JsonObject,
  key: string,
  isValue: (value: unknown) => value is T,
): ReadonlyMap<string, T> {
  const value = raw[key] ?? {};
  if (!isObject(value)) throw new FieldError(`"${key}" is not an object`);
  const map = new Map<string, T>();
  for (const [name, item] of Object.entries(value)) {
    if (!isValue(item)) throw new FieldError(`"${key}" has a bad value for "${name}"`);
    map.set(name, item);
  }
  return map;
}

export function objectField(raw: JsonObject, key: string): JsonObject {
  const value = raw[key] ?? {};
  if (!isObject(value)) throw new FieldError(`"${key}" is not an object`);
  return value;
}

export function isText(value: unknown): value is string {
  return typeof value === 'string';
}

export function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value);
}

export function idMapField(raw: JsonObject, key: string): readonly IdMapping[] {
  const value = raw[key] ?? [];
  if (!Array.isArray(value)) throw new FieldError(`"${key}" is not a list`);
  return value.map((item: unknown) => {
    if (!isObject(item)) throw new FieldError(`"${key}" holds something else than mappings`);
    return {
      containerId: integerField(item, 'container_id') ?? 0,
      hostId: integerField(item, 'host_id') ?? 0,
      size: integerField(item, 'size') ?? 0,
    };
  });
}

export function idMapJson(maps: readonly IdMapping[]): JsonObject[] {
  return maps.map((map) => ({ container_id: map.containerId, host_id: map.hostId, size: map.size }));
}
