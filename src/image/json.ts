import { CrioError, messageOf } from '../base/errors.ts';

/** A parsed JSON value whose objects are maps: no key of an image can reach a prototype. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export type JsonObject = ReadonlyMap<string, Json>;

const maxDepth = 64;

/**
 * Parses untrusted JSON. Objects become maps, and what two parsers could read differently is refused: invalid UTF-8,
 * a key that stands twice in an object, also in other letter case (Go's parser ignores case). Throws `invalid`.
 */
export function parseStrictJson(data: Uint8Array, what: string): Json {
  const text = decode(data, what);
  // JSON.parse is fast and exact; the scan before it sees what it hides, so its result needs no second look.
  scan(text, what);
  try {
    return toJson(JSON.parse(text));
  } catch (error) {
    throw new CrioError('invalid', `parse ${what}: ${messageOf(error)}`);
  }
}

/** Like `parseStrictJson`, but of a key that stands twice the last one counts. For documents that only one program reads. */
export function parseLooseJson(data: Uint8Array, what: string): Json {
  const text = decode(data, what);
  checkDepth(text, what);
  try {
    return toJson(JSON.parse(text));
  } catch (error) {
    throw new CrioError('invalid', `parse ${what}: ${messageOf(error)}`);
  }
}

/** What Go's parser takes for the same key: letters in either case, and the long s that is an s in upper case. */
export function foldKey(key: string): string {
  return key.toLowerCase().replaceAll('\u017f', 's');
}

/** The plain value for `JSON.stringify`. */
export function toPlain(value: Json): unknown {
  if (isObject(value)) {
    // fromEntries defines properties: a key `__proto__` becomes one like any other.
    return Object.fromEntries([...value].map(([key, item]) => [key, toPlain(item)]));
  }
  return isList(value) ? value.map(toPlain) : value;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return value instanceof Map;
}

export function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

/** Typed access to one JSON object; every error names the path of the field. */
export class JsonReader {
  readonly path: string;
  readonly #object: JsonObject;

  constructor(value: Json | undefined, path: string) {
    if (!isObject(value)) throw new CrioError('invalid', `${path}: expected an object`);
    this.#object = value;
    this.path = path;
  }

  get keys(): readonly string[] {
    return [...this.#object.keys()];
  }

  has(key: string): boolean {
    return this.#object.has(key);
  }

  raw(key: string): Json | undefined {
    return this.#object.get(key);
  }

  /** Absent and null read as undefined, as Go's parser leaves the field. */
  string(key: string): string | undefined {
    const value = this.#object.get(key) ?? undefined;
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw this.#wrong(key, 'a string');
    return value;
  }

  integer(key: string): number | undefined {
    const value = this.#object.get(key) ?? undefined;
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw this.#wrong(key, 'an integer');
    return value;
  }

  boolean(key: string): boolean | undefined {
    const value = this.#object.get(key) ?? undefined;
    if (value === undefined) return undefined;
    if (typeof value !== 'boolean') throw this.#wrong(key, 'true or false');
    return value;
  }

  array(key: string): readonly Json[] {
    const value = this.#object.get(key) ?? [];
    if (!isList(value)) throw this.#wrong(key, 'a list');
    return value;
  }

  strings(key: string): readonly string[] {
    return this.array(key).map((item) => {
      if (typeof item !== 'string') throw this.#wrong(key, 'a list of strings');
      return item;
    });
  }

  stringMap(key: string): ReadonlyMap<string, string> {
    const value = this.#object.get(key) ?? undefined;
    if (value === undefined) return new Map();
    if (!isObject(value)) throw this.#wrong(key, 'an object of strings');
    const strings = new Map<string, string>();
    for (const [name, item] of value) {
      if (typeof item !== 'string') throw this.#wrong(key, 'an object of strings');
      strings.set(name, item);
    }
    return strings;
  }

  object(key: string): JsonReader | undefined {
    const value = this.#object.get(key) ?? undefined;
    return value === undefined ? undefined : new JsonReader(value, `${this.path}.${key}`);
  }

  #wrong(key: string, want: string): CrioError {
    return new CrioError('invalid', `${this.path}.${key}: expected ${want}`);
  }
}

function decode(data: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw new CrioError('invalid', `parse ${what}: not valid UTF-8`);
  }
}

function toJson(value: unknown): Json {
  if (value === null || typeof value !== 'object') return value as Json; // JSON.parse makes nothing else
  if (Array.isArray(value)) return value.map(toJson);
  return new Map(Object.entries(value).map(([key, item]) => [key, toJson(item)]));
}

/** Refuses deep nesting before anything recursive sees the text. */
function checkDepth(text: string, what: string): void {
  let depth = 0;
  for (const token of tokens(text)) {
    if (token === '{' || token === '[') depth += 1;
    else if (token === '}' || token === ']') depth -= 1;
    if (depth > maxDepth) throw new CrioError('invalid', `parse ${what}: nested deeper than ${maxDepth} levels`);
  }
}

function scan(text: string, what: string): void {
  const open: (Set<string> | undefined)[] = [];
  let last = '';
  for (const token of tokens(text)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(undefined);
    else if (token === '}' || token === ']') open.pop();
    else if (token === ':') addKey(open.at(-1), last, what);
    if (open.length > maxDepth) throw new CrioError('invalid', `parse ${what}: nested deeper than ${maxDepth} levels`);
    last = token;
  }
}

function addKey(keys: Set<string> | undefined, token: string, what: string): void {
  if (keys === undefined || !token.startsWith('"')) return; // JSON.parse refuses it afterwards
  const key = token
    .slice(1, -1)
    .replace(/\\u([0-9a-fA-F]{4})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  const folded = foldKey(key);
  if (keys.has(folded)) throw new CrioError('invalid', `parse ${what}: key ${JSON.stringify(key)} stands twice`);
  keys.add(folded);
}

/** Strings (with their quotes) and the characters that structure JSON; everything else is skipped. */
function* tokens(text: string): Iterable<string> {
  const pattern = /"(?:[^"\\]|\\.)*"|[{}[\]:]/gs;
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) yield match[0];
}
