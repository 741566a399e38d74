import { fieldName } from './option.ts';
import type { Fields, Option, Options } from './option.ts';
import { groups, handlerOptions } from './options.ts';
import type { GroupName } from './options.ts';
import type { Handler } from './handler.ts';

/**
 * The configuration: one field per TOML table, in it one per option, named in camelCase after the TOML key
 * (`[crio.runtime] drop_infra_ctr` is `config.runtime.dropInfraCtr`). Durations are milliseconds and end in `Ms`.
 * The types come from the option table.
 */
export type Config = { readonly [G in GroupName]: Fields<(typeof groups)[G]['options']> };

/** Merged but not validated: a string with a fixed set of values may still hold anything. */
export type UncheckedConfig = { readonly [G in GroupName]: Widen<Config[G]> };
type Widen<T> = { readonly [K in keyof T]: T[K] extends string ? string : T[K] };

export type RuntimeHandlerConfig = Handler;

/** The built-in defaults, without a look at the host. */
export function defaultConfig(): Config {
  const result: Partial<Record<GroupName, unknown>> = {};
  for (const name of groupNames) {
    const fields: Record<string, unknown> = {};
    for (const [key, option] of optionsOf(name)) fields[fieldName(key, option)] = option.default;
    result[name] = fields;
  }
  // The loop writes exactly the fields that the type `Config` derives from the same table.
  const config = result as unknown as Config;
  return { ...config, runtime: { ...config.runtime, runtimes: new Map([['crun', defaultCrun()]]) } };
}

/** An entry of `runtimes` in which nothing is set. */
export function emptyHandler(): Handler {
  return fieldsOf<Handler>(handlerOptions);
}

/** The entry that exists without any configuration. */
function defaultCrun(): Handler {
  return {
    ...emptyHandler(),
    runtimeType: 'oci',
    runtimeRoot: '/run/crun',
    containerMinMemory: '500KiB',
    // Where systemd manages cgroups; validation takes it away where it does not.
    monitorCgroup: 'system.slice',
    monitorEnv: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    allowedAnnotations: ['io.containers.trace-syscall', 'devices.crio.io'],
    containerCreateTimeout: 240,
  };
}

/** The zero value of a table entry. */
export function fieldsOf<T>(options: Options): T {
  const entries = Object.entries(options).map(([key, option]) => [fieldName(key, option), option.default] as const);
  // The option table has one entry for each field of T; `config.test.ts` compares them.
  return Object.fromEntries(entries) as T;
}

export const groupNames = Object.keys(groups) as readonly GroupName[]; // keys of a literal object

export function optionsOf(group: GroupName): readonly (readonly [string, Option])[] {
  return Object.entries(groups[group].options);
}

/** Reads one option by group and key, for code that walks the table. */
export function getOption(config: UncheckedConfig, group: GroupName, key: string, option: Option): unknown {
  return (config[group] as Readonly<Record<string, unknown>>)[fieldName(key, option)];
}

/** A copy in which one option has another value; the caller has checked its type against the table. */
export function withOption(
  config: UncheckedConfig,
  group: GroupName,
  key: string,
  option: Option,
  value: unknown,
): UncheckedConfig {
  return { ...config, [group]: { ...config[group], [fieldName(key, option)]: value } };
}
