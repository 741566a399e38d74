import { isDeepStrictEqual } from 'node:util';
import { CrioError } from '../base/errors.ts';
import { getOption, withOption } from './config.ts';
import type { Config, UncheckedConfig } from './config.ts';
import type { ValidationContext } from './handlers.ts';
import { parseFilter, parseLevel } from './log-settings.ts';
import type { Option } from './option.ts';
import { groups } from './options.ts';
import { checkPauseImage, validateReloaded } from './validate.ts';

export interface Reloaded {
  /** What was applied, also when a later step failed. */
  readonly config: Config;
  /** Why the reload ended early. */
  readonly error: unknown;
}

/** Throws when the new value cannot be used. */
type Check = (next: UncheckedConfig, context: ValidationContext) => unknown;

interface Step {
  readonly group: 'runtime' | 'image';
  readonly keys: readonly string[];
  readonly check?: Check;
}

/** The order is CRI-O's; an error ends the reload, and what was applied before stays. */
const steps: readonly Step[] = [
  { group: 'runtime', keys: ['log_level'], check: ({ runtime }) => parseLevel(runtime.logLevel) },
  { group: 'runtime', keys: ['log_filter'], check: ({ runtime }) => parseFilter(runtime.logFilter) },
  { group: 'image', keys: ['pause_image'], check: checkPauseImage },
  { group: 'image', keys: ['pause_image_auth_file'], check: checkAuthFile },
  { group: 'image', keys: ['pause_command'] },
  { group: 'image', keys: ['pinned_images'] },
  { group: 'runtime', keys: ['decryption_keys_path'] },
  { group: 'runtime', keys: ['seccomp_profile', 'privileged_seccomp_profile'] },
  { group: 'runtime', keys: ['apparmor_profile'] },
  { group: 'runtime', keys: ['blockio_config_file', 'blockio_reload', 'rdt_config_file'] },
  { group: 'runtime', keys: ['runtimes', 'default_runtime'] },
  { group: 'runtime', keys: ['cdi_spec_dirs'] },
];

/**
 * Takes the reloadable options of `files` (defaults, main file and drop-ins, without flags and environment, as CRI-O)
 * into `current`. Logs one line for each option that changes.
 */
export function reloadConfig(current: Config, files: UncheckedConfig, context: ValidationContext): Reloaded {
  let config = current;
  try {
    for (const step of steps) config = applyStep(config, files, step, context);
  } catch (error) {
    return { config, error };
  }
  return { config, error: undefined };
}

function applyStep(current: Config, files: UncheckedConfig, step: Step, context: ValidationContext): Config {
  let next: UncheckedConfig = current;
  const changed: string[] = [];
  for (const key of step.keys) {
    const option = optionOf(step.group, key);
    const value = getOption(files, step.group, key, option);
    if (isSame(key, value, getOption(current, step.group, key, option))) continue;
    next = withOption(next, step.group, key, option, value);
    // Validated handlers never equal those of the files, so they are replaced each time, as in CRI-O.
    changed.push(
      key === 'runtimes' ? 'Updating runtime configuration' : `Set config ${key} to ${JSON.stringify(value)}`,
    );
  }
  if (changed.length === 0) return current;
  step.check?.(next, context);
  // Handlers are validated anew; the other options of a step have any value of their type.
  const checked = step.keys.includes('runtimes') ? validateReloaded(next, context) : (next as Config);
  for (const line of changed) context.log.info(line);
  return checked;
}

function optionOf(group: Step['group'], key: string): Option {
  const option = Object.entries<Option>(groups[group].options).find(([name]) => name === key)?.[1];
  if (option === undefined) throw new CrioError('internal', `no option "${key}"`);
  return option;
}

/** Pinned images are a set, without empty entries. */
function isSame(key: string, a: unknown, b: unknown): boolean {
  if (key !== 'pinned_images' || !Array.isArray(a) || !Array.isArray(b)) return isDeepStrictEqual(a, b);
  const asSet = (list: readonly unknown[]) => new Set(list.filter((item) => item !== ''));
  return isDeepStrictEqual(asSet(a), asSet(b));
}

function checkAuthFile({ image }: UncheckedConfig, { host }: ValidationContext): void {
  const path = image.pauseImageAuthFile;
  if (path !== '' && host.typeOf(path) === undefined) {
    throw new CrioError('not-found', `read pause_image_auth_file "${path}": no such file`);
  }
}
