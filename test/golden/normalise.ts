/** A value of a JSON document. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Texts of a run that mean a fixed thing, such as ids; longer ones are replaced first. */
export type Replacements = ReadonlyMap<string, string>;

const patterns: readonly (readonly [RegExp, string])[] = [
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g, '<time>'],
  [/sha256:[0-9a-f]{64}/g, '<digest>'],
  [/[0-9a-f]{64}/g, '<id>'],
  [/\/proc\/\d+\/ns\//g, '/proc/<pid>/ns/'],
  [/\/(net|ipc|uts|user)ns\/[0-9a-f-]{36}/g, '/$1ns/<uuid>'],
  [/\b10\.\d+\.\d+\.\d+\b/g, '<address>'],
  [/\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, '<mac>'],
  [/\bveth[0-9a-f]{8}\b/g, '<veth>'],
];
/** Numbers that differ from run to run, by the name of their key; `0` and absence still differ from them. */
const runNumbers =
  /^(pid|initPid|startTime|initStartTime|created_time|createdAt|startedAt|finishedAt|size|timestamp|created-at)$/;
const zeroTime = '0001-01-01T00:00:00Z';

/** The document with all that differs from run to run replaced by its meaning. JSON inside strings is opened. */
export function normalise(value: Json, replacements: Replacements, key = ''): Json {
  if (typeof value === 'string') return normaliseText(value, replacements, key);
  if (typeof value === 'number') return runNumbers.test(key) && value !== 0 ? '<number>' : value;
  if (Array.isArray(value)) return value.map((item: Json) => normalise(item, replacements));
  if (value === null || typeof value === 'boolean') return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [replaceAll(name, replacements), normalise(item, replacements, name)]),
  );
}

function normaliseText(text: string, replacements: Replacements, key: string): Json {
  if (text === zeroTime) return text;
  if (/^[[{]/.test(text)) {
    try {
      return normalise(JSON.parse(text) as Json, replacements, key);
    } catch {
      // Not JSON after all.
    }
  }
  if (runNumbers.test(key) && /^[1-9]\d*$/.test(text)) return '<number>';
  return replaceAll(text, replacements);
}

export function replaceAll(text: string, replacements: Replacements): string {
  let result = text;
  for (const [from, to] of [...replacements].toSorted(([a], [b]) => b.length - a.length))
    result = result.replaceAll(from, to);
  for (const [pattern, to] of patterns) result = result.replaceAll(pattern, to);
  return result;
}

/** Every place where the two documents differ, as `path: recorded ... , now ...`. */
export function differences(recorded: Json | undefined, now: Json | undefined, path = ''): string[] {
  if (isObject(recorded) && isObject(now)) {
    const names = new Set([...Object.keys(recorded), ...Object.keys(now)]);
    return [...names].toSorted().flatMap((name) => differences(recorded[name], now[name], `${path}/${name}`));
  }
  if (Array.isArray(recorded) && Array.isArray(now) && recorded.length === now.length) {
    return recorded.flatMap((item: Json, index) => differences(item, now[index] as Json, `${path}/${index}`));
  }
  const show = (value: Json | undefined): string => (value === undefined ? 'absent' : JSON.stringify(value));
  return show(recorded) === show(now) ? [] : [`${path}: recorded ${show(recorded)}, now ${show(now)}`];
}

function isObject(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
