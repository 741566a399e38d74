import { isDeepStrictEqual } from 'node:util';
import { emptyHandler, getOption, groupNames, optionsOf } from './config.ts';
import type { UncheckedConfig } from './config.ts';
import type { Handler, Workload } from './handler.ts';
import { fieldName } from './option.ts';
import type { Option, Options } from './option.ts';
import { groups, handlerOptions, resourceOptions, workloadOptions } from './options.ts';
import type { GroupName } from './options.ts';
import { quoteToml, tomlItems, tomlKey, tomlScalar } from './toml-text.ts';

const heading = `# Configuration of crio: the container runtime of a Kubernetes node.
# Every option is listed with its default value, commented out unless it is set to another one.
# Options marked as reloadable are read again when the daemon gets SIGHUP.
`;

/**
 * `crio config`: every option with a comment; values that differ from `defaults` stand uncommented. With `all`, every
 * value does (`--default`).
 */
export function printTemplate(config: UncheckedConfig, defaults: UncheckedConfig, all: boolean): string {
  const printer = new Printer(config, defaults, all);
  return [heading, ...groupNames.map((group) => printer.group(group))].join('\n');
}

class Printer {
  readonly #config: UncheckedConfig;
  readonly #defaults: UncheckedConfig;
  readonly #all: boolean;

  constructor(config: UncheckedConfig, defaults: UncheckedConfig, all: boolean) {
    this.#config = config;
    this.#defaults = defaults;
    this.#all = all;
  }

  group(group: GroupName): string {
    const options = optionsOf(group);
    const blocks = options.map(([key, option]) => this.#option(group, key, option)).filter((block) => block !== '');
    const isSub = group === 'nriDefaultValidator';
    const isOn = this.#all || !isSub || options.some(([key, option]) => this.#isChanged(group, key, option));
    return [`${isOn ? '' : '# '}[${groups[group].table}]\n`, ...blocks].join('\n');
  }

  #option(group: GroupName, key: string, option: Option): string {
    if (option.type === 'handlers') return this.#handlers(option);
    if (option.type === 'workloads') return this.#workloads(option);
    // What CRI-O's template lacks is printed when it is set: the output can be read back without a loss.
    const isOn =
      option.template === undefined
        ? this.#all || this.#isChanged(group, key, option)
        : this.#isChanged(group, key, option);
    if (option.template === 'never' && !isOn) return '';
    return `${comment(option)}${lines(assignment(key, option, getOption(this.#config, group, key, option)), isOn)}`;
  }

  #isChanged(group: GroupName, key: string, option: Option): boolean {
    const value = getOption(this.#config, group, key, option);
    return !isDeepStrictEqual(value, getOption(this.#defaults, group, key, option));
  }

  #handlers(option: Option): string {
    const { runtimes } = this.#config.runtime;
    const isOn = this.#all || !isDeepStrictEqual(runtimes, this.#defaults.runtime.runtimes);
    const tables = [...runtimes].map(([name, handler]) =>
      table(`crio.runtime.runtimes.${tomlKey(name)}`, handlerOptions, handler, isOn),
    );
    return `${comment(option)}${fieldComments(handlerOptions)}${tables.join('\n')}`;
  }

  #workloads(option: Option): string {
    const tables = [...this.#config.runtime.workloads].map(([name, workload]) => workloadTables(name, workload));
    return `${comment(option)}${fieldComments(workloadOptions)}${fieldComments(resourceOptions)}${tables.join('\n')}`;
  }
}

function workloadTables(name: string, workload: Workload): string {
  const path = `crio.runtime.workloads.${tomlKey(name)}`;
  const own = table(path, workloadOptions, workload, true);
  return workload.resources === undefined
    ? own
    : `${own}\n${table(`${path}.resources`, resourceOptions, workload.resources, true)}`;
}

function table(path: string, options: Options, value: Handler | Workload | object, isOn: boolean): string {
  const fields = new Map(Object.entries(value));
  const defaults = new Map<string, unknown>(Object.entries(emptyHandler()));
  const body = Object.entries(options).flatMap(([key, option]) => {
    const name = fieldName(key, option);
    const current: unknown = fields.get(name);
    if (option.type === 'resources') return [];
    if (option.template === 'never' && isDeepStrictEqual(current, defaults.get(name) ?? option.default)) return [];
    return [assignment(key, option, current)];
  });
  return lines([`[${path}]`, ...body].join('\n'), isOn);
}

function assignment(key: string, option: Option, value: unknown): string {
  if (option.type === 'strings') return `${key} = ${list(tomlItems(value))}`;
  if (value instanceof Map) {
    const pairs = [...value].map(([name, text]) => `${tomlKey(String(name))} = ${quoteToml(String(text))}`);
    return `${key} = { ${pairs.join(', ')} }`.replace('{  }', '{}');
  }
  return `${key} = ${tomlScalar(option.type, value)}`;
}

function list(items: readonly string[]): string {
  return items.length === 0 ? '[]' : `[\n${items.map((item) => `\t${item},\n`).join('')}]`;
}

function lines(text: string, isOn: boolean): string {
  return `${isOn ? text : text.replace(/^/gm, '# ')}\n`;
}

function comment(option: Option): string {
  const notes = option.reloadable === true ? ' Reloadable.' : '';
  return wrapText(option.doc + notes, 98)
    .map((line) => `# ${line}\n`)
    .join('');
}

function fieldComments(options: Options): string {
  return Object.entries(options)
    .flatMap(([key, { doc }]) => wrapText(`- ${key}: ${doc}`, 98))
    .map((line) => `# ${line}\n`)
    .join('');
}

/** Breaks at spaces. */
export function wrapText(text: string, width: number): readonly string[] {
  const result: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      result.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...result, line];
}
