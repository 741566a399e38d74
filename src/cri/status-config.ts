import { optionsOf, type Config } from '../config/config.ts';
import { fieldName, type Options } from '../config/option.ts';
import { handlerOptions, resourceOptions, workloadOptions } from '../config/options.ts';

/** The JSON of `crictl info`'s `config`: the runtime options under the names that CRI-O's structures have. */
export function statusConfig(config: Config): unknown {
  const crio: Record<string, unknown> = {};
  for (const group of ['runtime', 'checkpointRestore'] as const) {
    for (const [key, option] of optionsOf(group)) {
      crio[option.goName ?? camelCase(key)] = goValue(
        (config[group] as Readonly<Record<string, unknown>>)[fieldName(key, option)],
      );
    }
  }
  crio['Runtimes'] = objectOf(config.runtime.runtimes, (handler) => goFields(handlerOptions, handler));
  crio['Workloads'] = objectOf(config.runtime.workloads, (workload) => ({
    ...goFields(workloadOptions, workload),
    Resources: workload.resources === undefined ? null : goFields(resourceOptions, workload.resources),
  }));
  return { sandboxImage: config.image.pauseImage, crio: sorted(crio) };
}

function goFields(options: Options, fields: object): Record<string, unknown> {
  const values = new Map(Object.entries(fields));
  return sorted(
    Object.fromEntries(
      Object.entries(options).map(([key, option]) => [
        option.goName ?? camelCase(key),
        goValue(values.get(fieldName(key, option))),
      ]),
    ),
  );
}

/** Go encodes lists and maps that nobody set as null. */
function goValue(value: unknown): unknown {
  if (value === undefined) return null;
  if (Array.isArray(value)) return value.length === 0 ? null : value;
  if (value instanceof Map) return value.size === 0 ? null : Object.fromEntries(value);
  return value;
}

function objectOf<T>(map: ReadonlyMap<string, T>, encode: (value: T) => unknown): Record<string, unknown> | null {
  return map.size === 0 ? null : Object.fromEntries([...map].map(([key, value]) => [key, encode(value)]));
}

function sorted(object: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function camelCase(key: string): string {
  return key.replace(/(?:^|_)([a-z])/g, (_match, letter: string) => letter.toUpperCase());
}
