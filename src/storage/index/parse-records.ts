import { isObject } from './json-fields.ts';
import type { JsonObject } from './json-fields.ts';

export interface ParsedRecords {
  readonly records: readonly JsonObject[];
  /** Text that is no JSON object; nothing when the file is in order. */
  readonly damaged: readonly string[];
}

/**
 * Reads an index file: a JSON array of objects. A missing or empty file is an empty list. From a damaged file (cut off,
 * or with garbage in it) every whole object is taken.
 */
export function parseRecords(text: string): ParsedRecords {
  if (text.trim() === '') return { records: [], damaged: [] };
  const value = parse(text);
  if (value === null) return { records: [], damaged: [] };
  if (!Array.isArray(value)) return salvage(text);
  const records: JsonObject[] = [];
  const damaged: string[] = [];
  for (const item of value) {
    if (isObject(item)) records.push(item);
    else damaged.push(JSON.stringify(item));
  }
  return { records, damaged };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function salvage(text: string): ParsedRecords {
  const records: JsonObject[] = [];
  const damaged: string[] = [];
  for (const piece of splitObjects(text)) {
    const value = parse(piece);
    if (isObject(value)) records.push(value);
    else if (/[^\s[\],\0]/.test(piece)) damaged.push(piece);
  }
  return { records, damaged };
}

/** Cuts the text into top-level `{...}` pieces and what is between them. */
function* splitObjects(text: string): Iterable<string> {
  let depth = 0;
  let start = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (inString) {
      if (char === '\\') at++;
      else if (char === '"') inString = false;
    } else if (char === '"') inString = depth > 0;
    else if (char === '{' && depth++ === 0) {
      yield text.slice(start, at);
      start = at;
    } else if (char === '}' && depth > 0 && --depth === 0) {
      yield text.slice(start, at + 1);
      start = at + 1;
    }
  }
  yield text.slice(start);
}
