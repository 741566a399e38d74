/** The vocabulary of the option table: `options.ts` uses it, everything else is derived from there. */

/** How a value is written in TOML and on the command line; `duration` is held in milliseconds. */
export type OptionType =
  | 'string'
  | 'bool'
  | 'int'
  | 'uint'
  | 'strings'
  | 'duration'
  | 'string-map'
  | 'handlers'
  | 'workloads'
  | 'resources';

export interface Option<V = unknown> {
  readonly type: OptionType;
  readonly default: V;
  /** For people: the comment in `crio config`, the text in the man page; its first sentence is the usage in `--help`. */
  readonly doc: string;
  /** Long flag without dashes. */
  readonly flag?: string;
  /** Further names of the flag, short or long. */
  readonly aliases?: readonly string[];
  /** Environment variables that set the flag; the first one that exists wins. */
  readonly env?: string | readonly string[];
  /** The flag does not appear in help, completion and manual. */
  readonly hidden?: boolean;
  /** Re-read on SIGHUP. */
  readonly reloadable?: boolean;
  /** False: accepted, but without effect in this release; a value other than the default gets a warning at start. */
  readonly implemented?: boolean;
  readonly deprecated?: boolean;
  /** The complete set of values. */
  readonly choices?: readonly string[];
  /** Where `crio config` differs: `never` leaves it out, `commented` never takes the comment sign away. */
  readonly template?: 'never' | 'commented';
  /** Name of the field in CRI-O's own structures, where it is not the CamelCase of the key. */
  readonly goName?: string;
}

/** Everything about an option but its type and default. */
export type OptionDetails = Omit<Option, 'type' | 'default' | 'doc' | 'choices'>;

export function string(value: string, doc: string, details: OptionDetails = {}): Option<string> {
  return { type: 'string', default: value, doc, ...details };
}

/** A string that validation narrows to one of `choices`. */
export function choice<const C extends string>(
  value: C,
  choices: readonly C[],
  doc: string,
  details: OptionDetails = {},
): Option<C> {
  return { type: 'string', default: value, choices, doc, ...details };
}

export function bool(value: boolean, doc: string, details: OptionDetails = {}): Option<boolean> {
  return { type: 'bool', default: value, doc, ...details };
}

export function int(value: number, doc: string, details: OptionDetails = {}): Option<number> {
  return { type: 'int', default: value, doc, ...details };
}

export function uint(value: number, doc: string, details: OptionDetails = {}): Option<number> {
  return { type: 'uint', default: value, doc, ...details };
}

/** The field is called `<key>Ms` and holds milliseconds. */
export function duration(ms: number, doc: string, details: OptionDetails = {}): DurationOption {
  return { type: 'duration', default: ms, doc, ...details };
}

/**
 * A list that nobody set. Compared by identity: the effective dump leaves an absent list out, as CRI-O's encoder does
 * with a nil slice, and keeps an explicit empty one.
 */
export const absent: readonly string[] = Object.freeze([]);

export function strings(value: readonly string[], doc: string, details: OptionDetails = {}): Option<readonly string[]> {
  return { type: 'strings', default: value, doc, ...details };
}

export function stringMap(doc: string, details: OptionDetails = {}): Option<ReadonlyMap<string, string>> {
  return { type: 'string-map', default: new Map<string, string>(), doc, ...details };
}

export type DurationOption = Option<number> & { readonly type: 'duration' };

export type Options = Readonly<Record<string, Option>>;

/** `storage_driver` -> `storageDriver`; durations get the suffix `Ms`. */
export function fieldName(key: string, option: Pick<Option, 'type'>): string {
  const name = key.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  return option.type === 'duration' ? `${name}Ms` : name;
}

type CamelCase<S extends string> = S extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;

/** The fields that a group of options becomes in `Config`. */
export type Fields<T extends Options> = {
  readonly [
    K in keyof T & string as T[K] extends DurationOption ? `${CamelCase<K>}Ms` : CamelCase<K>
  ]: T[K] extends Option<infer V> ? V : never;
};
