import { CrioError } from '../base/errors.ts';
import { formatReference } from './reference.ts';
import type { Reference } from './reference.ts';

/**
 * Which images garbage collection must keep: patterns are an exact name, `prefix*`, or `*keyword*`, without regard to
 * letter case. `prefix*` matches in the middle of a name too: nodes rely on `pause*`, whatever the registry.
 */
export function createPinFilter(patterns: readonly string[]): (names: readonly string[]) => boolean {
  const tests = patterns.filter((pattern) => pattern !== '').map((pattern) => createTest(pattern.toLowerCase()));
  return (names) => names.some((name) => tests.some((test) => test(name.toLowerCase())));
}

/** Patterns for one image: the complete names that it may have in the store. Of a name that stands for none, the name itself. */
export function pinPatterns(name: string, resolve: (name: string) => readonly Reference[]): readonly string[] {
  try {
    return resolve(name).map(formatReference);
  } catch (error) {
    if (error instanceof CrioError && error.kind === 'invalid') return [name];
    throw error;
  }
}

function createTest(pattern: string): (name: string) => boolean {
  if (pattern.endsWith('*')) {
    const keyword = pattern.replace(/^\*/, '').slice(0, -1);
    return (name) => name.includes(keyword);
  }
  return (name) => name === pattern;
}
