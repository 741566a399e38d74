import { appendFileSync, mkdirSync, openSync } from 'node:fs';
import { CrioError, hasCode, messageOf, wrap } from '../base/errors.ts';
import { Logger } from '../base/log.ts';
import type { LogSink } from '../base/log.ts';
import { runtimeVersion } from '../base/version.ts';
import { withoutEffect } from '../config/effect.ts';
import { boolFlag, globalFlags, stringFlag } from '../config/flags.ts';
import type { Flag, FlagValues } from '../config/flags.ts';
import { realHost } from '../config/host.ts';
import type { Host } from '../config/host.ts';
import { hostDefaults, loadConfig } from '../config/load.ts';
import type { LoadedConfig } from '../config/load.ts';
import { parseFilter, parseLevel } from '../config/log-settings.ts';
import { parseFlags } from '../config/parse-flags.ts';
import { printEffective } from '../config/print-effective.ts';
import { validateFull } from '../config/validate.ts';
import { checkCommand } from './check.ts';
import type { StoreAccess } from './store-access.ts';
import { ArgumentsError, commandHint, findCommand } from './command.ts';
import type { Command, CommandContext, Input, Output } from './command.ts';
import { completion } from './complete.ts';
import { configCommand } from './config.ts';
import { appHelp, appUsageLine, commandHelp, commandUsageLine, helpFlag, versionFlag } from './help.ts';
import { refuseLiveSocket } from './live-socket.ts';
import { manPage, markdownPage } from './manual.ts';
import { policyCommand } from './policy.ts';
import { pullCommand } from './pull.ts';
import { RunningConfig } from './running-config.ts';
import { statusCommand } from './status.ts';
import { versionCommand, versionSummary } from './version.ts';
import { wipeCommand } from './wipe.ts';

/** What the command line hands to the daemon; `config` is validated, handlers have absolute paths. */
export type DaemonStart = RunningConfig;

export interface CliDeps {
  /** Runs until the daemon ends; the result is the exit code. */
  readonly startDaemon: (start: DaemonStart) => Promise<number>;
  readonly openStore: StoreAccess['openStore'];
  readonly output?: Output;
  readonly input?: Input;
}

/** The command `crio` with these arguments (without the program itself). Returns the exit code, never throws. */
export async function runCli(args: readonly string[], env: Host['env'], deps: CliDeps): Promise<number> {
  // A reader that has seen enough, such as head, is no failure.
  if (deps.output === undefined) process.stdout.on('error', (error) => ignoreBrokenPipe(error));
  const output = deps.output ?? processOutput;
  const sink: LogSink = { level: 'info', filter: undefined, format: 'text', write: (line) => output.stderr(line) };
  const log = new Logger(sink);
  try {
    return await new Cli(args, env, deps, { output, sink, log }).run();
  } catch (error) {
    log.fatal(messageOf(error));
    if (error instanceof UsageError) output.stderr(`Usage: ${error.usage}\nTry: ${error.help}\n`);
    return 1;
  }
}

/** Words that no command takes. CRI-O prints its whole help on standard output, where `crio config > file` would keep it. */
class UsageError extends CrioError {
  readonly usage: string;
  /** The command that prints all of it. */
  readonly help: string;

  constructor(cause: unknown, usage: string, path: string) {
    super('invalid', messageOf(cause), { cause });
    this.usage = usage;
    this.help = `${path} --help`;
  }
}

function ignoreBrokenPipe(error: Error): void {
  if (!hasCode(error, 'EPIPE')) throw error;
}

const processOutput: Output = {
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
  isTerminal: process.stdout.isTTY === true,
};

const processInput: Input = {
  read: () => process.stdin.setEncoding('utf8'),
  isTerminal: process.stdin.isTTY === true,
};

class Cli {
  readonly #args: readonly string[];
  readonly #host: Host;
  readonly #deps: CliDeps;
  readonly #output: Output;
  readonly #sink: LogSink;
  readonly #log: Logger;
  readonly #commands: readonly Command[];

  constructor(
    args: readonly string[],
    env: Host['env'],
    deps: CliDeps,
    io: { readonly output: Output; readonly sink: LogSink; readonly log: Logger },
  ) {
    this.#args = args;
    this.#host = realHost(env);
    this.#deps = deps;
    this.#output = io.output;
    this.#sink = io.sink;
    this.#log = io.log;
    this.#commands = allCommands(deps);
  }

  async run(): Promise<number> {
    const { values, rest } = this.#parse([...globalFlags, helpFlag, versionFlag], this.#args, appUsageLine, 'crio');
    if (boolFlag(values, 'help')) return this.#print(this.#appHelp());
    if (boolFlag(values, 'version')) return this.#print(versionSummary());
    this.#setFormat(values);
    const isDaemon = rest.length === 0;
    const loaded = loadConfig(this.#host, values, isDaemon ? this.#log : this.#commandLog(values));
    this.#setLog(loaded, values, rest[0]);
    return isDaemon ? await this.#daemon(loaded, values) : await this.#command(rest, loaded, values);
  }

  #parse(flags: readonly Flag[], args: readonly string[], usage: string, path: string): ReturnType<typeof parseFlags> {
    try {
      return parseFlags(flags, args, this.#host.env);
    } catch (error) {
      throw new UsageError(error, usage, path);
    }
  }

  #appHelp(): string {
    return appHelp(this.#commands, globalFlags, runtimeVersion);
  }

  #print(text: string): number {
    this.#output.stdout(text);
    return 0;
  }

  #setFormat(values: FlagValues): void {
    const format = stringFlag(values, 'log-format') ?? 'text';
    if (format !== 'text' && format !== 'json') throw new CrioError('invalid', `unknown log-format "${format}"`);
    this.#sink.format = format;
  }

  /** Which files a command reads is told only to those who ask; what is wrong in them is told to all. */
  #commandLog(values: FlagValues): Logger {
    const level = parseLevel(stringFlag(values, 'log-level') ?? 'info');
    if (level === 'debug' || level === 'trace') return this.#log;
    const { filter, format } = this.#sink;
    return new Logger({ level: 'warn', filter, format, write: (line) => this.#sink.write(line) });
  }

  /** `crio config` logs at info whatever the level, without the time: its output is for people and scripts. */
  #setLog({ config }: LoadedConfig, values: FlagValues, command: string | undefined): void {
    const level = parseLevel(config.runtime.logLevel);
    const filter = parseFilter(config.runtime.logFilter);
    if (command === 'config') {
      this.#sink.write = (line) => this.#output.stderr(line.replace(/^time="[^"]*" /, ''));
    } else {
      this.#sink.level = level;
      this.#sink.filter = filter;
    }
    const file = stringFlag(values, 'log') ?? '';
    if (file !== '') this.#sink.write = fileWriter(file);
  }

  async #daemon(loaded: LoadedConfig, flags: FlagValues): Promise<number> {
    const context = { host: this.#host, log: this.#log };
    const config = validateFull(loaded, context);
    await refuseLiveSocket(config.api.listen);
    makeLogFolder(config.crio.logDir);
    for (const line of withoutEffect(loaded, hostDefaults(this.#host))) this.#log.warn(line);
    if (config.image.insecureRegistries.length > 0) {
      this.#log.error('Option insecure_registries has no effect: use registries.conf');
    }
    for (const { flag, value } of flags.values())
      this.#log.info(`FLAG: --${flag.name}=${JSON.stringify(String(value))}`);
    this.#log.info(() => `Current CRI-O configuration:\n${printEffective(config)}`);
    return this.#deps.startDaemon(
      new RunningConfig({ config, flags, log: this.#log, sink: this.#sink, host: this.#host }),
    );
  }

  async #command(words: readonly string[], loaded: LoadedConfig, globals: FlagValues): Promise<number> {
    const [name = '', ...args] = words;
    if (name === 'help' || name === 'h') return this.#help(this.#commands, 'crio', args[0], () => this.#appHelp());
    const command = findCommand(this.#commands, name);
    if (command === undefined) {
      const hint = commandHint(this.#commands, name);
      throw new UsageError(`command "${name}" not supported${hint}`, appUsageLine, 'crio');
    }
    return this.#runCommand(command, `crio ${command.name}`, args, { loaded, globals, parentFlags: new Map() });
  }

  async #runCommand(
    command: Command,
    path: string,
    args: readonly string[],
    from: Pick<CommandContext, 'loaded' | 'parentFlags' | 'globals'>,
  ): Promise<number> {
    const help = () => commandHelp(command, path);
    const { values, rest } = this.#parseCommand(command, args, path);
    if (boolFlag(values, 'help')) return this.#print(help());
    const [name, ...more] = rest;
    if (command.subcommands !== undefined) {
      if (name === undefined) return this.#print(help());
      if (name === 'help' || name === 'h') return this.#help(command.subcommands, path, more[0], help);
      const subcommand = findCommand(command.subcommands, name);
      if (subcommand === undefined) return this.#unknownTopic(command.subcommands, name);
      return this.#runCommand(subcommand, `${path} ${subcommand.name}`, more, { ...from, parentFlags: values });
    }
    if (command.run === undefined) return this.#print(help());
    const input = this.#deps.input ?? processInput;
    const io = { host: this.#host, log: this.#log, output: this.#output, input };
    try {
      return await command.run({ ...from, ...io, flags: values, args: rest });
    } catch (error) {
      throw error instanceof ArgumentsError ? new UsageError(error, commandUsageLine(command, path), path) : error;
    }
  }

  #parseCommand(command: Command, args: readonly string[], path: string): ReturnType<typeof parseFlags> {
    const { values, rest } = this.#parse([...command.flags, helpFlag], args, commandUsageLine(command, path), path);
    const [word, ...more] = rest;
    if (command.flagsAnywhere !== true || word === undefined) return { values, rest };
    const later = this.#parseCommand(command, more, path);
    return { values: new Map([...values, ...later.values]), rest: [word, ...later.rest] };
  }

  #help(commands: readonly Command[], path: string, topic: string | undefined, all: () => string): number {
    if (topic === undefined) return this.#print(all());
    const command = findCommand(commands, topic);
    return command === undefined
      ? this.#unknownTopic(commands, topic)
      : this.#print(commandHelp(command, `${path} ${command.name}`));
  }

  #unknownTopic(commands: readonly Command[], topic: string): number {
    this.#output.stderr(`No help topic for '${topic}'${commandHint(commands, topic)}\n`);
    return 3;
  }
}

function allCommands(deps: CliDeps): readonly Command[] {
  const commands: Command[] = [
    checkCommand(deps),
    {
      name: 'complete',
      aliases: ['completion'],
      usage: 'print a completion script',
      arguments: '[bash|fish|zsh]',
      flags: [],
      run({ args, output }) {
        if (args.length > 1) output.stdout(commandHelp(requireCommand(commands, 'complete'), 'crio complete'));
        else output.stdout(completion(args[0] ?? 'bash', commands, globalFlags));
        return 0;
      },
    },
    configCommand,
    pageCommand('man', [], 'print the manual page', () => manPage(commands, globalFlags)),
    pageCommand('markdown', ['md'], 'print the manual as markdown', () => markdownPage(commands, globalFlags)),
    // Shims of runtimes call it as their event callback; there is nothing to do with an event.
    {
      name: 'publish',
      aliases: [],
      usage: 'receive an event of a shim',
      hidden: true,
      flags: publishFlags,
      run: () => 0,
    },
    policyCommand,
    pullCommand,
    statusCommand,
    versionCommand,
    wipeCommand(deps),
  ];
  return commands;
}

function makeLogFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw wrap(`validating root config: create log_dir "${path}"`, error);
  }
}

const publishFlags = globalFlags
  .filter(({ name }) => name === 'address')
  .flatMap((base) => [
    { ...base, name: 'topic' },
    { ...base, name: 'namespace' },
  ]);

function pageCommand(name: string, aliases: readonly string[], usage: string, page: () => string): Command {
  return {
    name,
    aliases,
    usage,
    flags: [],
    run({ output }) {
      output.stdout(page());
      return 0;
    },
  };
}

function requireCommand(commands: readonly Command[], name: string): Command {
  const command = findCommand(commands, name);
  if (command === undefined) throw new CrioError('internal', `no command "${name}"`);
  return command;
}

/** Opened once, so that a wrong path is an error at start. */
function fileWriter(path: string): (line: string) => void {
  try {
    const descriptor = openSync(path, 'as', 0o666);
    return (line) => appendFileSync(descriptor, line);
  } catch (error) {
    throw wrap(`open log file "${path}"`, error);
  }
}
