import { CrioError } from '../base/errors.ts';
import type { Flag } from '../config/flags.ts';
import type { Command } from './command.ts';

/** Completion scripts: the visible commands with their aliases, and the long flags. */
export function completion(shell: string, commands: readonly Command[], flags: readonly Flag[]): string {
  const words = commandWords(commands);
  const options = flags.filter(({ hidden }) => !hidden).map(({ name, usage }) => ({ name: `--${name}`, usage }));
  options.push({ name: '--help', usage: 'show help' }, { name: '--version', usage: 'print the version' });
  switch (shell) {
    case 'bash':
      return bash([...words.map(({ name }) => name), ...options.map(({ name }) => name)]);
    case 'fish':
      return fish(words, options);
    case 'zsh':
      return zsh(words, options);
    default:
      throw new CrioError('invalid', 'only bash, fish or zsh are supported');
  }
}

interface Word {
  readonly name: string;
  readonly usage: string;
}

function commandWords(commands: readonly Command[]): readonly Word[] {
  const visible = commands.filter(({ hidden }) => hidden !== true);
  const words = visible.flatMap(({ name, aliases, usage }) =>
    [name, ...aliases].map((word) => ({ name: word, usage })),
  );
  return [...words, { name: 'help', usage: 'show help' }, { name: 'h', usage: 'show help' }];
}

function bash(words: readonly string[]): string {
  return `_crio() {
  local current words
  current="\${COMP_WORDS[COMP_CWORD]}"
  words="
${words.join('\n')}
"
  COMPREPLY=()
  while IFS='' read -r line; do COMPREPLY+=("$line"); done < <(compgen -W "$words" -- "$current")
}

complete -o bashdefault -o default -F _crio crio
`;
}

function fish(words: readonly Word[], options: readonly Word[]): string {
  const commands = words.map(
    ({ name, usage }) => `complete -c crio -n '__fish_use_subcommand' -f -a '${name}' -d '${quoted(usage)}'`,
  );
  const flags = options.map(
    ({ name, usage }) => `complete -c crio -n '__fish_use_subcommand' -f -l ${name.slice(2)} -d '${quoted(usage)}'`,
  );
  return `${[...commands, ...flags].join('\n')}\n`;
}

function quoted(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll("'", "\\'");
}

function zsh(words: readonly Word[], options: readonly Word[]): string {
  const entry = ({ name, usage }: Word) => `    '${name.replaceAll(':', '\\:')}:${usage.replaceAll("'", "'\\''")}'`;
  return `#compdef crio

_crio() {
  local -a commands options
  commands=(
${words.map(entry).join('\n')}
  )
  options=(
${options.map(entry).join('\n')}
  )
  _describe 'commands' commands
  _describe 'global options' options
}

compdef _crio crio
`;
}
