import { CrioError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Flag, FlagValues } from '../config/flags.ts';
import type { LoadedConfig } from '../config/load.ts';
import type { Host } from '../config/host.ts';
import { didYouMean } from '../config/nearest.ts';

/** A command of `crio`, as data: help, completion and manual are made from it. */
export interface Command {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly usage: string;
  /** What follows the flags, for help. */
  readonly arguments?: string;
  readonly hidden?: boolean;
  readonly flags: readonly Flag[];
  /** Flags may also follow the arguments; CRI-O's commands do not take them there. */
  readonly flagsAnywhere?: boolean;
  readonly subcommands?: readonly Command[];
  /** Returns the exit code; throws CrioError for what ends as one fatal line. Without it the help is printed. */
  readonly run?: (context: CommandContext) => number | Promise<number>;
}

/** Arguments that a command does not take; its usage is printed with it. */
export class ArgumentsError extends CrioError {
  constructor(message: string) {
    super('invalid', message);
  }
}

export interface CommandContext {
  /** Of the command itself. */
  readonly flags: FlagValues;
  /** Of the command above a subcommand. */
  readonly parentFlags: FlagValues;
  /** Before the command. */
  readonly globals: FlagValues;
  readonly args: readonly string[];
  /** Merged but not validated; broken files have been refused already. */
  readonly loaded: LoadedConfig;
  readonly host: Host;
  readonly log: Logger;
  readonly output: Output;
  readonly input: Input;
}

export interface Input {
  readonly read: () => AsyncIterable<string>;
  /** True when a person would have to type. */
  readonly isTerminal: boolean;
}

export interface Output {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  /** True when people see standard output as it is written. */
  readonly isTerminal?: boolean;
}

export function findCommand(commands: readonly Command[], name: string): Command | undefined {
  return commands.find((command) => command.name === name || command.aliases.includes(name));
}

/** The visible command that may have been meant, as the end of an error; empty when none is near. */
export function commandHint(commands: readonly Command[], name: string): string {
  const visible = commands.filter(({ hidden }) => hidden !== true);
  return didYouMean(
    name,
    visible.flatMap((command) => [command.name, ...command.aliases]),
  );
}
