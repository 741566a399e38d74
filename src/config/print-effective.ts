import { getOption, groupNames, optionsOf } from './config.ts';
import type { UncheckedConfig } from './config.ts';
import type { Workload } from './handler.ts';
import { absent, fieldName } from './option.ts';
import type { Option, Options } from './option.ts';
import { groups, handlerOptions, resourceOptions, workloadOptions } from './options.ts';
import { allowableAnnotations } from './allowed-annotations.ts';
import { quoteToml, tomlItems, tomlKey, tomlScalar } from './toml-text.ts';

/** Fields of a handler that are printed also when they are empty. */
const alwaysPrinted = new Set([
  'runtime_config_path',
  'runtime_path',
  'runtime_type',
  'runtime_root',
  'no_sync_log',
  'container_create_timeout',
]);

/**
 * The effective configuration as `GET /config` and the log at start show it: no comments, two spaces per level, tables
 * after plain options, lists and maps that nobody set left out.
 */
export function printEffective(config: UncheckedConfig): string {
  const printer = new Printer();
  printer.header('crio', 0);
  for (const group of groupNames) {
    const depth = groups[group].table.split('.').length - 1;
    if (depth > 0) printer.header(groups[group].table, depth);
    for (const [key, option] of optionsOf(group)) {
      printer.value(key, option, getOption(config, group, key, option), depth + 1);
    }
    if (group === 'runtime') printRuntimeTables(printer, config);
  }
  return printer.text;
}

function printRuntimeTables(printer: Printer, config: UncheckedConfig): void {
  const { runtimes, workloads } = config.runtime;
  if (runtimes.size > 0) printer.header('crio.runtime.runtimes', 2);
  for (const [name, handler] of byKey(runtimes)) {
    const path = `crio.runtime.runtimes.${tomlKey(name)}`;
    printer.header(path, 3);
    printer.fields(handlerOptions, handler, 4, (key) => !alwaysPrinted.has(key));
    printer.maps(path, handlerOptions, handler, 4);
  }
  if (workloads.size > 0) printer.header('crio.runtime.workloads', 2);
  for (const [name, workload] of byKey(workloads)) printWorkload(printer, name, workload);
}

/** The names of the resources, and the list of what is not allowed, are as CRI-O's encoder prints them. */
function printWorkload(printer: Printer, name: string, workload: Workload): void {
  const path = `crio.runtime.workloads.${tomlKey(name)}`;
  printer.header(path, 3);
  printer.fields(workloadOptions, workload, 4, () => false);
  const disallowed = [...allowableAnnotations].filter(
    (annotation) => !workload.allowedAnnotations.includes(annotation),
  );
  printer.line(`DisallowedAnnotations = [${tomlItems(disallowed).join(', ')}]`, 4);
  if (workload.resources === undefined) return;
  printer.header(`${path}.resources`, 4);
  const renamed = Object.entries(resourceOptions).map(([key, option]) => [option.goName ?? key, option] as const);
  const values = new Map<string, unknown>(Object.entries(workload.resources));
  for (const [goName, option] of renamed) printer.value(goName, option, values.get(goName.toLowerCase()), 5);
}

class Printer {
  text = '';

  header(path: string, depth: number): void {
    this.line(`[${path}]`, depth);
  }

  line(text: string, depth: number): void {
    this.text += `${'  '.repeat(depth)}${text}\n`;
  }

  value(key: string, option: Option, value: unknown, depth: number): void {
    if (value === undefined || value === absent || value instanceof Map || option.type === 'resources') return;
    this.line(
      `${key} = ${option.type === 'strings' ? `[${tomlItems(value).join(', ')}]` : tomlScalar(option.type, value)}`,
      depth,
    );
  }

  fields(options: Options, value: object, depth: number, leaveOutZero: (key: string) => boolean): void {
    const fields = new Map<string, unknown>(Object.entries(value));
    for (const [key, option] of Object.entries(options)) {
      const current = fields.get(fieldName(key, option));
      if (!(leaveOutZero(key) && isZero(current))) this.value(key, option, current, depth);
    }
  }

  /** String maps are tables of their own, after the plain fields. */
  maps(path: string, options: Options, value: object, depth: number): void {
    const fields = new Map<string, unknown>(Object.entries(value));
    for (const [key, option] of Object.entries(options)) {
      const map = fields.get(fieldName(key, option));
      if (!(map instanceof Map) || map.size === 0) continue;
      this.header(`${path}.${key}`, depth);
      for (const [name, text] of byKey(map))
        this.line(`${tomlKey(String(name))} = ${quoteToml(String(text))}`, depth + 1);
    }
  }
}

function isZero(value: unknown): boolean {
  return value === '' || value === 0 || value === false || (Array.isArray(value) && value.length === 0);
}

/** Maps are printed in the order of their keys, as Go's encoders do. */
function byKey<K, V>(map: ReadonlyMap<K, V>): readonly (readonly [K, V])[] {
  return [...map].toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1));
}
