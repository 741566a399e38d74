import { CrioError, wrap } from '../../base/errors.ts';
import { isJsonObject } from '../../base/go-json.ts';
import { canonicalCapability } from './capabilities.ts';
import { readExactIntegers } from './exact-integer.ts';
import type { RuleCondition, SeccompArgument, SeccompProfile, SeccompRule } from './seccomp-profile.ts';

/** Reads a profile file. Both old spellings (`architectures`, `name`) and new ones (`archMap`, `names`) are taken. Throws CrioError `invalid`. */
export function parseSeccompProfile(text: string): SeccompProfile {
  let json: unknown;
  try {
    json = JSON.parse(text, readExactIntegers);
  } catch (error) {
    throw wrap('parse seccomp profile', error, 'invalid');
  }
  return readProfile(asObject(json, 'profile'));
}

type Fields = Readonly<Record<string, unknown>>;

function readProfile(json: Fields): SeccompProfile {
  const architectures = texts(json, 'architectures');
  const archMap = objects(json, 'archMap').map((entry) => ({
    architecture: text(entry, 'architecture'),
    subArchitectures: texts(entry, 'subArchitectures'),
  }));
  if (architectures.length > 0 && archMap.length > 0) fail('both "architectures" and "archMap" are given');
  return {
    defaultAction: text(json, 'defaultAction'),
    ...optional('defaultErrnoRet', count(json, 'defaultErrnoRet')),
    ...optional('defaultErrno', optionalText(json, 'defaultErrno')),
    architectures,
    archMap,
    flags: texts(json, 'flags'),
    ...optional('listenerPath', optionalText(json, 'listenerPath')),
    ...optional('listenerMetadata', optionalText(json, 'listenerMetadata')),
    syscalls: objects(json, 'syscalls').map(readRule),
  };
}

function readRule(json: Fields): SeccompRule {
  const names = texts(json, 'names');
  const name = text(json, 'name');
  if (names.length > 0 && name !== '') fail('a rule has both "name" and "names"');
  return {
    names: name === '' ? names : [name],
    action: text(json, 'action'),
    ...optional('errnoRet', count(json, 'errnoRet')),
    ...optional('errno', optionalText(json, 'errno')),
    args: objects(json, 'args').map(readArgument),
    includes: readCondition(json['includes']),
    excludes: readCondition(json['excludes']),
  };
}

function readArgument(json: Fields): SeccompArgument {
  return {
    index: count(json, 'index') ?? 0,
    value: integer(json, 'value'),
    valueTwo: integer(json, 'valueTwo'),
    op: text(json, 'op'),
  };
}

function readCondition(json: unknown): RuleCondition {
  if (json === undefined || json === null) return {};
  const fields = asObject(json, 'condition');
  return { caps: texts(fields, 'caps').map(canonicalCapability), arches: texts(fields, 'arches') };
}

function text(json: Fields, key: string): string {
  return optionalText(json, key) ?? '';
}

function optionalText(json: Fields, key: string): string | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  return typeof value === 'string' ? value : fail(`"${key}" is not a string`);
}

function texts(json: Fields, key: string): string[] {
  return list(json, key).map((item) =>
    typeof item === 'string' ? item : fail(`"${key}" holds something else than strings`),
  );
}

function objects(json: Fields, key: string): Fields[] {
  return list(json, key).map((item) => asObject(item, key));
}

function list(json: Fields, key: string): readonly unknown[] {
  const value = json[key];
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : fail(`"${key}" is not a list`);
}

function count(json: Fields, key: string): number | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  const isCount = typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
  return isCount ? value : fail(`"${key}" is not a count`);
}

/** Up to 64 bits. */
function integer(json: Fields, key: string): number | bigint {
  const value = json[key] ?? 0;
  if (typeof value === 'bigint') return value >= 0n && value < 2n ** 64n ? value : fail(`"${key}" is out of range`);
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : fail(`"${key}" is not a count`);
}

function asObject(json: unknown, what: string): Fields {
  return isJsonObject(json) ? json : fail(`${what} is not an object`);
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  // the computed key is the one of the type
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: V };
}

function fail(why: string): never {
  throw new CrioError('invalid', `parse seccomp profile: ${why}`);
}
