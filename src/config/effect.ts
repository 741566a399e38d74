import { isDeepStrictEqual } from 'node:util';
import { emptyHandler, fieldsOf, getOption, groupNames, optionsOf } from './config.ts';
import type { UncheckedConfig } from './config.ts';
import type { Handler, Workload } from './handler.ts';
import type { LoadedConfig } from './load.ts';
import { fieldName } from './option.ts';
import type { Options } from './option.ts';
import { groups, handlerOptions, workloadOptions } from './options.ts';

/** One line for each option that is set to another value than its default and has no effect in this release. */
export function withoutEffect(loaded: LoadedConfig, defaults: UncheckedConfig): readonly string[] {
  const { config, origins } = loaded;
  const paths = groupNames.flatMap((group) =>
    optionsOf(group).flatMap(([key, option]) => {
      const isChanged = !isDeepStrictEqual(
        getOption(config, group, key, option),
        getOption(defaults, group, key, option),
      );
      return option.implemented === false && isChanged ? [`${groups[group].table}.${key}`] : [];
    }),
  );
  const handlers = [...config.runtime.runtimes].flatMap(([name, handler]) =>
    changedFields(
      `crio.runtime.runtimes.${name}`,
      handlerOptions,
      handler,
      defaults.runtime.runtimes.get(name) ?? emptyHandler(),
    ),
  );
  const workloads = [...config.runtime.workloads].flatMap(([name, workload]) =>
    changedFields(`crio.runtime.workloads.${name}`, workloadOptions, workload, fieldsOf<Workload>(workloadOptions)),
  );
  return [...paths, ...handlers, ...workloads].map((path) => {
    const origin = origins.get(path);
    return `Option ${path}${origin === undefined ? '' : ` (${origin})`} is set, but has no effect in this release yet`;
  });
}

function changedFields(
  path: string,
  options: Options,
  value: Handler | Workload,
  empty: Handler | Workload,
): readonly string[] {
  const fields = new Map<string, unknown>(Object.entries(value));
  const zero = new Map<string, unknown>(Object.entries(empty));
  return Object.entries(options).flatMap(([key, option]) => {
    const name = fieldName(key, option);
    return option.implemented === false && !isDeepStrictEqual(fields.get(name), zero.get(name))
      ? [`${path}.${key}`]
      : [];
  });
}
