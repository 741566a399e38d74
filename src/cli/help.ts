import { formatDuration } from '../config/go-duration.ts';
import { flag } from '../config/flags.ts';
import type { Flag } from '../config/flags.ts';
import type { Command } from './command.ts';

/** Help texts in the layout of the command line library that CRI-O uses. */

export const helpFlag: Flag = flag({
  name: 'help',
  aliases: ['h'],
  type: 'bool',
  default: undefined,
  usage: 'show help',
});
export const versionFlag: Flag = flag({
  name: 'version',
  aliases: ['v'],
  type: 'bool',
  default: undefined,
  usage: 'print the version',
});

export const appUsage = 'container runtime of a Kubernetes node';
export const appDescription = [
  'crio serves the Container Runtime Interface (CRI v1) of Kubernetes. It takes the place of CRI-O on a node without a',
  'change elsewhere: the same configuration files, flags, socket and files on disk.',
  '',
  'Without a command it runs the daemon. Refer to crio.conf(5) for the configuration files.',
].join('\n');

export function appHelp(commands: readonly Command[], flags: readonly Flag[], version: string): string {
  return sections([
    ['NAME', [`crio - ${appUsage}`]],
    ['USAGE', [appUsageLine]],
    ['VERSION', [version]],
    ['DESCRIPTION', appDescription.split('\n')],
    ['COMMANDS', commandLines(commands)],
    ['GLOBAL OPTIONS', flagLines(visible([...flags, helpFlag, versionFlag]))],
  ]);
}

/** One line, as an error ends with; `crio --help` says the rest. */
export const appUsageLine = 'crio [global options] command [command options]';

/** As `appUsageLine`, of a command. `path`: the words before and with it, such as `crio status info`. */
export function commandUsageLine(command: Command, path: string): string {
  if (command.subcommands !== undefined) return `${path} command [command options]`;
  return `${path} [command options]${command.arguments === undefined ? '' : ` ${command.arguments}`}`;
}

/** `path`: the words before and with the command, such as `crio status info`. */
export function commandHelp(command: Command, path: string): string {
  const name = `${path} - ${command.usage}`;
  const flags = flagLines(visible([...command.flags, helpFlag]));
  if (command.subcommands !== undefined) {
    return sections([
      ['NAME', [name]],
      ['USAGE', [commandUsageLine(command, path)]],
      ['COMMANDS', commandLines(command.subcommands)],
      ['OPTIONS', flags],
    ]);
  }
  return sections([
    ['NAME', [name]],
    ['USAGE', [commandUsageLine(command, path)]],
    ['OPTIONS', flags],
  ]);
}

function visible(flags: readonly Flag[]): readonly Flag[] {
  return flags.filter(({ hidden }) => !hidden);
}

function sections(parts: readonly (readonly [title: string, lines: readonly string[]])[]): string {
  return parts
    .map(([title, lines]) => `${title}:\n${lines.map((line) => `   ${line}`.trimEnd()).join('\n')}\n`)
    .join('\n');
}

function commandLines(commands: readonly Command[]): readonly string[] {
  const rows = commands
    .filter(({ hidden }) => hidden !== true)
    .map(({ name, aliases, usage }) => [[name, ...aliases].join(', '), usage] as const);
  return columns([...rows, ['help, h', 'Shows a list of commands or help for one command']]);
}

function flagLines(flags: readonly Flag[]): readonly string[] {
  return columns(flags.map((item) => [flagSyntax(item), flagUsage(item)] as const));
}

/** Two columns with two spaces between. */
export function columns(rows: readonly (readonly [string, string])[]): readonly string[] {
  const width = Math.max(0, ...rows.map(([first]) => first.length));
  return rows.map(([first, second]) => `${first.padEnd(width)}  ${second}`.trimEnd());
}

/** `--config value, -c value`; lists are shown as repeatable. */
export function flagSyntax(item: Flag): string {
  const value = item.type === 'bool' ? '' : ' value';
  const one = [item.name, ...item.aliases].map((name) => `${name.length > 1 ? '--' : '-'}${name}${value}`).join(', ');
  return isList(item) ? `${one} [ ${one} ]` : one;
}

function isList(item: Flag): boolean {
  return item.type === 'strings' || item.type === 'handlers';
}

function flagUsage(item: Flag): string {
  const value = defaultText(item);
  const env = item.env.length === 0 ? '' : ` [${item.env.map((name) => `$${name}`).join(', ')}]`;
  return `${item.usage}${value === '' ? '' : ` (default: ${value})`}${env}`;
}

/** As text for people; empty when there is none worth showing. */
export function defaultText(item: Flag): string {
  const value = item.default;
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return item.type === 'duration' ? formatDuration(value) : String(value);
  if (typeof value === 'string') return value === '' ? '' : JSON.stringify(value);
  return Array.isArray(value) ? value.map((entry) => JSON.stringify(entry)).join(', ') : '';
}
