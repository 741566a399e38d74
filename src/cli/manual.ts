import type { Flag } from '../config/flags.ts';
import type { Command } from './command.ts';
import { appDescription, appUsage, defaultText, flagSyntax, helpFlag, versionFlag } from './help.ts';

/** The manual crio(8), made from the flags and commands: one list of blocks, printed as roff or as markdown. */
type Block =
  | { readonly kind: 'section'; readonly title: string }
  | { readonly kind: 'command'; readonly title: string }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'flag'; readonly syntax: string; readonly text: string };

function blocks(commands: readonly Command[], flags: readonly Flag[]): readonly Block[] {
  return [
    { kind: 'section', title: 'NAME' },
    { kind: 'text', text: `crio - ${appUsage}` },
    { kind: 'section', title: 'SYNOPSIS' },
    { kind: 'text', text: 'crio [GLOBAL OPTIONS] command [COMMAND OPTIONS] [ARGUMENTS...]' },
    { kind: 'section', title: 'DESCRIPTION' },
    { kind: 'text', text: appDescription },
    { kind: 'section', title: 'GLOBAL OPTIONS' },
    ...flagBlocks([...flags, helpFlag, versionFlag]),
    { kind: 'section', title: 'COMMANDS' },
    ...commandBlocks(commands),
    { kind: 'section', title: 'FILES' },
    { kind: 'flag', syntax: '/etc/crio/crio.conf', text: 'Configuration, see crio.conf(5).' },
    { kind: 'flag', syntax: '/etc/crio/crio.conf.d', text: 'Drop-in configuration files, see crio.conf.d(5).' },
    { kind: 'section', title: 'SEE ALSO' },
    { kind: 'text', text: 'crio.conf(5), crio.conf.d(5), containers-storage.conf(5), containers-registries.conf(5)' },
  ];
}

function commandBlocks(commands: readonly Command[]): readonly Block[] {
  return commands.flatMap((command): readonly Block[] => {
    if (command.hidden === true) return [];
    const title = [command.name, ...command.aliases].join(', ');
    return [
      { kind: 'command', title },
      { kind: 'text', text: command.usage },
      ...flagBlocks(command.flags),
      ...commandBlocks(command.subcommands ?? []),
    ];
  });
}

function flagBlocks(flags: readonly Flag[]): readonly Block[] {
  return flags
    .filter(({ hidden }) => !hidden)
    .map((item) => {
      const value = defaultText(item);
      const env = item.env.map((name) => `$${name}`).join(', ');
      const notes = [value === '' ? '' : `Default: ${value}.`, env === '' ? '' : `Environment: ${env}.`];
      return {
        kind: 'flag',
        syntax: flagSyntax(item),
        text: [item.usage, ...notes].filter((note) => note !== '').join(' '),
      };
    });
}

export function manPage(commands: readonly Command[], flags: readonly Flag[]): string {
  const body = blocks(commands, flags).map((block) => {
    switch (block.kind) {
      case 'section':
        return `.SH ${block.title}\n`;
      case 'command':
        return `.SS ${roff(block.title)}\n`;
      case 'text':
        return `${block.text.split('\n\n').map(roff).join('\n.PP\n')}\n`;
      case 'flag':
        return `.TP\n\\fB${roff(block.syntax)}\\fR\n${roff(block.text)}\n`;
    }
  });
  return `.nh\n.TH crio 8\n${body.join('')}`;
}

/** A backslash, a hyphen and a leading dot or quote mean something to roff. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1');
}

export function markdownPage(commands: readonly Command[], flags: readonly Flag[]): string {
  const body = blocks(commands, flags).map((block) => {
    switch (block.kind) {
      case 'section':
        return `# ${block.title}\n\n`;
      case 'command':
        return `## ${block.title}\n\n`;
      case 'text':
        return `${block.text}\n\n`;
      case 'flag':
        return `**${block.syntax}**: ${block.text}\n\n`;
    }
  });
  return `% crio 8\n\n${body.join('')}`.trimEnd().concat('\n');
}
