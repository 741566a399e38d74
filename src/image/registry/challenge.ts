/** One entry of a WWW-Authenticate header, RFC 7235. */
export interface Challenge {
  /** lower case */
  readonly scheme: string;
  /** Keys in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const parameter = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))/y;

/** Reads all challenges of a header; what cannot be read ends the list. */
export function parseChallenges(header: string | undefined): readonly Challenge[] {
  const text = (header ?? '').slice(0, 8192);
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let index = skip(text, 0);
  while (index < text.length) {
    const next = match(parameter, text, index);
    const current = challenges.at(-1);
    if (next !== undefined && current !== undefined) {
      const value = next[2] === undefined ? (next[3] ?? '') : next[2].replaceAll(/\\(.)/g, '$1');
      current.parameters.set((next[1] ?? '').toLowerCase(), value);
      index = skip(text, index + next[0].length);
      continue;
    }
    const scheme = match(token, text, index)?.[0];
    if (scheme === undefined) break;
    challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() });
    index = skip(text, index + scheme.length);
  }
  return challenges;
}

function match(pattern: RegExp, text: string, index: number): RegExpExecArray | undefined {
  pattern.lastIndex = index;
  return pattern.exec(text) ?? undefined;
}

function skip(text: string, index: number): number {
  let at = index;
  while (at < text.length && ' \t,'.includes(text.charAt(at))) at += 1;
  return at;
}
