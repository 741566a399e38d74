import { CrioError } from '../base/errors.ts';
import type { Flag, FlagValue, FlagValues } from './flags.ts';
import { didYouMean } from './nearest.ts';
import { parseValue } from './value.ts';

export interface ParsedFlags {
  readonly values: FlagValues;
  /** What follows the flags. */
  readonly rest: readonly string[];
}

type Value = FlagValue['value'];

/**
 * Reads flags as Go's flag package does: one or two dashes, `--name value` or `--name=value`, booleans only bare or
 * with `=`, up to the first word that is no flag, or past `--`. Then the environment fills in flags that are not given.
 * Throws CrioError with Go's text, and the flag that may have been meant.
 */
export function parseFlags(
  flags: readonly Flag[],
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedFlags {
  const byName = new Map(flags.flatMap((flag) => [flag.name, ...flag.aliases].map((name) => [name, flag] as const)));
  const values = new Map<string, FlagValue>();
  let index = 0;
  while (index < args.length) {
    const word = tokenize(args[index] ?? '');
    if (word === undefined) break;
    index += 1;
    if (word === 'end') break;
    const flag = byName.get(word.name);
    if (flag === undefined) throw undefinedFlag(word.name, flags);
    let text = word.value;
    if (text === undefined && flag.type !== 'bool') {
      text = args[index++];
      if (text === undefined) throw new CrioError('invalid', `flag needs an argument: -${word.name}`);
    }
    const value = parseArgument(flag, word.name, text ?? 'true');
    values.set(flag.name, { flag, value: append(values.get(flag.name)?.value, value), source: `--${flag.name}` });
  }
  for (const flag of flags) addFromEnvironment(flag, values, env);
  return { values, rest: args.slice(index) };
}

function undefinedFlag(name: string, flags: readonly Flag[]): CrioError {
  const names = flags.filter(({ hidden }) => !hidden).flatMap((flag) => [flag.name, ...flag.aliases]);
  const hint = didYouMean(name, names, '--');
  return new CrioError('invalid', `flag provided but not defined: -${name}${hint}`);
}

interface Word {
  readonly name: string;
  readonly value: string | undefined;
}

/** Undefined: no flag; `end`: the word `--`. */
function tokenize(word: string): Word | 'end' | undefined {
  if (word.length < 2 || !word.startsWith('-')) return undefined;
  if (word === '--') return 'end';
  const body = word.replace(/^--?/, '');
  if (body.startsWith('-') || body.startsWith('=')) throw new CrioError('invalid', `bad flag syntax: ${word}`);
  const equals = body.indexOf('=');
  return equals < 0 ? { name: body, value: undefined } : { name: body.slice(0, equals), value: body.slice(equals + 1) };
}

function parseArgument(flag: Flag, name: string, text: string): Value {
  const value = parseValue(flag.type, text);
  if (value !== undefined) return value;
  const kind = flag.type === 'bool' ? 'invalid boolean value' : 'invalid value';
  const problem = isOutOfRange(flag, text) ? 'value out of range' : 'parse error';
  throw new CrioError('invalid', `${kind} ${JSON.stringify(text)} for flag -${name}: ${problem}`);
}

function isOutOfRange(flag: Flag, text: string): boolean {
  return flag.type === 'int' && /^[+-]?\d+$/.test(text);
}

/** A list flag may be repeated. */
function append(earlier: Value | undefined, value: Value): Value {
  return Array.isArray(earlier) && Array.isArray(value) ? [...listOf(earlier), ...listOf(value)] : value;
}

function listOf(value: Value): readonly string[] {
  return typeof value === 'object' ? value : [];
}

/**
 * A variable that exists but is empty sets strings, booleans (false) and lists (one empty entry); for numbers and
 * durations it counts as absent.
 */
function addFromEnvironment(
  flag: Flag,
  values: Map<string, FlagValue>,
  env: Readonly<Record<string, string | undefined>>,
): void {
  if (values.has(flag.name)) return;
  for (const source of flag.env) {
    const text = env[source];
    if (text === undefined) continue;
    if (text === '' && (flag.type === 'int' || flag.type === 'uint' || flag.type === 'duration')) continue;
    const value = text === '' && flag.type === 'bool' ? false : parseValue(flag.type, text);
    if (value === undefined) {
      const type = goTypes[flag.type] ?? flag.type;
      throw new CrioError(
        'invalid',
        `could not parse ${JSON.stringify(text)} as ${type} value from environment variable "${source}" for flag ${flag.name}: parse error`,
      );
    }
    values.set(flag.name, { flag, value, source });
    return;
  }
}

const goTypes: Readonly<Record<string, string>> = { int: 'int', uint: 'uint', bool: 'bool', duration: 'duration' };
