import { ParseError, parseTOML } from 'toml-eslint-parser';
import type { AST } from 'toml-eslint-parser';

/** A TOML file as values that know where they stand. Lines and columns count from 1. */
export type TomlNode = TomlTable | TomlArray | TomlScalar;

interface Located {
  readonly line: number;
  readonly column: number;
}

export interface TomlTable extends Located {
  readonly kind: 'table';
  /** In the order of the file; the position of an entry is that of its key. */
  readonly entries: Map<string, TomlEntry>;
}

export interface TomlEntry extends Located {
  readonly key: string;
  readonly value: TomlNode;
}

export interface TomlArray extends Located {
  readonly kind: 'array';
  readonly items: TomlNode[];
}

export type TomlScalar = Located &
  (
    | { readonly kind: 'string'; readonly value: string }
    | { readonly kind: 'integer'; readonly value: bigint }
    | { readonly kind: 'boolean'; readonly value: boolean }
    | { readonly kind: 'float' | 'datetime' }
  );

/** A syntax error with its place. */
export class TomlError extends Error {
  readonly line: number;
  readonly column: number;

  constructor(message: string, line: number, column: number) {
    super(message);
    this.name = 'TomlError';
    this.line = line;
    this.column = column;
  }
}

/** Parses TOML 1.1. Throws TomlError for bad syntax, duplicate keys and duplicate tables. */
export function parseToml(bytes: Uint8Array): TomlTable {
  const root = emptyTable({ line: 1, column: 1 });
  for (const node of parseAst(decodeUtf8(bytes)).body[0].body) {
    if (node.type === 'TOMLKeyValue') addKeyValue(root, node);
    else addTable(root, node);
  }
  return root;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    // A byte order mark is dropped by the decoder.
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new TomlError('file is not valid UTF-8', 1, 1);
  }
}

function parseAst(text: string): AST.TOMLProgram {
  try {
    return parseTOML(text, { tomlVersion: '1.1' });
  } catch (error) {
    if (error instanceof ParseError) throw new TomlError(lowerFirst(error.message), error.lineNumber, error.column + 1);
    throw error;
  }
}

/** `[a.b]` or `[[a.b]]`: the parser has refused duplicates and has resolved which element of an array is meant. */
function addTable(root: TomlTable, node: AST.TOMLTable): void {
  let table = root;
  let name = 0;
  for (const [index, part] of node.resolvedKey.entries()) {
    if (typeof part === 'number') continue;
    const place = placeOf(node.key.keys[name++] ?? node);
    const element = node.resolvedKey[index + 1];
    table = typeof element === 'number' ? elementOf(table, part, element, place) : descend(table, part, place);
  }
  for (const entry of node.body) addKeyValue(table, entry);
}

function elementOf(table: TomlTable, key: string, index: number, place: Located): TomlTable {
  const entry = table.entries.get(key) ?? { key, value: { kind: 'array', items: [], ...place }, ...place };
  table.entries.set(key, entry);
  const items = entry.value.kind === 'array' ? entry.value.items : [];
  const item = items[index] ?? emptyTable(place);
  items[index] = item;
  return item.kind === 'table' ? item : notATable(key, place);
}

function descend(table: TomlTable, key: string, place: Located): TomlTable {
  const existing = table.entries.get(key)?.value;
  if (existing !== undefined) return existing.kind === 'table' ? existing : notATable(key, place);
  const child = emptyTable(place);
  table.entries.set(key, { key, value: child, ...place });
  return child;
}

function notATable(key: string, place: Located): never {
  throw new TomlError(`key "${key}" is not a table`, place.line, place.column);
}

function emptyTable(place: Located): TomlTable {
  return { kind: 'table', entries: new Map(), ...place };
}

function addKeyValue(table: TomlTable, node: AST.TOMLKeyValue): void {
  const place = placeOf(node.key);
  const names = node.key.keys.map((key) => (key.type === 'TOMLBare' ? key.name : key.value));
  const last = names.pop();
  if (last === undefined) return;
  let parent = table;
  for (const name of names) parent = descend(parent, name, place);
  parent.entries.set(last, { key: last, value: toNode(node.value), ...place });
}

function toNode(node: AST.TOMLContentNode): TomlNode {
  const place = placeOf(node);
  if (node.type === 'TOMLArray') return { kind: 'array', items: node.elements.map(toNode), ...place };
  if (node.type === 'TOMLInlineTable') {
    const table = emptyTable(place);
    for (const entry of node.body) addKeyValue(table, entry);
    return table;
  }
  return toScalar(node, place);
}

function toScalar(node: AST.TOMLValue, place: Located): TomlScalar {
  switch (node.kind) {
    case 'string':
      return { kind: 'string', value: node.value, ...place };
    case 'integer':
      return { kind: 'integer', value: node.bigint, ...place };
    case 'boolean':
      return { kind: 'boolean', value: node.value, ...place };
    case 'float':
      return { kind: 'float', ...place };
    default:
      return { kind: 'datetime', ...place };
  }
}

function placeOf(node: AST.TOMLNode): Located {
  return { line: node.loc.start.line, column: node.loc.start.column + 1 };
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
