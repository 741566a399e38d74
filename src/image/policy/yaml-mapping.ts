import { CrioError } from '../../base/errors.ts';

/** Nested mappings of strings: all that containers-registries.d(5) needs of YAML. */
export type YamlMapping = ReadonlyMap<string, string | YamlMapping>;

interface Level {
  readonly indent: number;
  readonly entries: Map<string, string | YamlMapping>;
}

/**
 * Parses block mappings with plain or quoted scalars and comments. Everything else of YAML (lists, anchors, flow
 * style, block scalars) is an error: it must not be read as something it does not mean.
 */
export function parseYamlMapping(text: string, file: string): YamlMapping {
  const root = new Map<string, string | YamlMapping>();
  const levels: Level[] = [{ indent: -1, entries: root }];
  let opened:
    | { readonly key: string; readonly parent: Map<string, string | YamlMapping>; readonly indent: number }
    | undefined;
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = stripComment(raw).trimEnd();
    if (line.trim() === '' || line === '---') continue;
    const fail = (why: string) => new CrioError('invalid', `read "${file}:${index + 1}": ${why}`);
    if (/^\s*\t/.test(line)) throw fail('a tab in the indentation');
    const indent = line.length - line.trimStart().length;
    const entry = splitEntry(line.trim(), fail);
    if (opened !== undefined && indent > opened.indent) {
      const entries = new Map<string, string | YamlMapping>();
      opened.parent.set(opened.key, entries);
      levels.push({ indent, entries });
    }
    while ((levels.at(-1)?.indent ?? -1) > indent) levels.pop();
    const level = levels.at(-1);
    if (
      level === undefined ||
      (level.indent !== indent && level.entries !== root) ||
      (level.entries === root && indent > 0)
    ) {
      throw fail('unexpected indentation');
    }
    if (level.entries.has(entry.key)) throw fail(`key "${entry.key}" stands twice`);
    level.entries.set(entry.key, entry.value ?? new Map());
    opened = entry.value === undefined ? { key: entry.key, parent: level.entries, indent } : undefined;
  }
  return root;
}

function splitEntry(
  text: string,
  fail: (why: string) => CrioError,
): { readonly key: string; readonly value: string | undefined } {
  const match = /^("(?:[^"\\])*"|'[^']*'|[^\s"'&*!|>%@`[\]{},?#-][^"']*?)\s*:(?:\s+(.*))?$/.exec(text);
  if (match === null) throw fail('not a mapping of the form "key: value"');
  const value = match[2]?.trim();
  return {
    key: unquote(match[1] ?? '', fail),
    value: value === undefined || value === '' ? undefined : unquote(value, fail),
  };
}

function unquote(text: string, fail: (why: string) => CrioError): string {
  if (/^"[^"\\]*"$/.test(text) || /^'[^']*'$/.test(text)) return text.slice(1, -1);
  if (/^["'&*!|>%@`[{]/.test(text)) throw fail(`unsupported YAML: ${text.slice(0, 40)}`);
  return text;
}

function stripComment(line: string): string {
  return line.replace(/(^|\s)#.*$/, '');
}
