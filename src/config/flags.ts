import { groupNames, optionsOf } from './config.ts';
import type { Option, OptionType } from './option.ts';
import type { GroupName } from './options.ts';

/** A command line flag, global or of a command. */
export interface Flag {
  /** Long name, without dashes. */
  readonly name: string;
  readonly aliases: readonly string[];
  readonly type: OptionType;
  readonly env: readonly string[];
  /** What `--help` shows as the default. */
  readonly default: unknown;
  readonly usage: string;
  readonly hidden: boolean;
  /** The option that it overrides; undefined for a flag without one. */
  readonly option?: { readonly group: GroupName; readonly key: string; readonly option: Option };
}

type PlainFlag = Pick<Flag, 'name' | 'usage'> & Partial<Omit<Flag, 'option'>>;

export function flag(details: PlainFlag): Flag {
  return { aliases: [], type: 'string', env: [], default: '', hidden: false, ...details };
}

/** Flags without an option in the files. */
const ownFlags: readonly Flag[] = [
  flag({
    name: 'config',
    aliases: ['c'],
    env: ['CONTAINER_CONFIG'],
    default: '/etc/crio/crio.conf',
    usage: 'Path to the configuration file.',
  }),
  flag({
    name: 'config-dir',
    aliases: ['d'],
    env: ['CONTAINER_CONFIG_DIR'],
    default: '/etc/crio/crio.conf.d',
    usage: 'Path to the folder of drop-in configuration files, read in lexical order after the configuration file.',
  }),
  flag({ name: 'log', env: ['CONTAINER_LOG'], usage: 'File to write the log to. Default: standard error.' }),
  flag({
    name: 'log-format',
    env: ['CONTAINER_LOG_FORMAT'],
    default: 'text',
    usage: 'Format of the log, "text" or "json".',
  }),
  flag({
    name: 'profile',
    type: 'bool',
    default: false,
    env: ['CONTAINER_PROFILE'],
    usage: 'Serve profiles over HTTP on the loopback address.',
  }),
  flag({
    name: 'profile-port',
    type: 'int',
    default: 6060,
    env: ['CONTAINER_PROFILE_PORT'],
    usage: 'Port for profiles.',
  }),
  flag({ name: 'profile-cpu', env: ['CONTAINER_PROFILE_CPU'], usage: 'File to write a CPU profile to at the end.' }),
  flag({ name: 'profile-mem', env: ['CONTAINER_PROFILE_MEM'], usage: 'File to write a memory profile to at the end.' }),
  flag({
    name: 'enable-profile-unix-socket',
    type: 'bool',
    default: false,
    env: ['ENABLE_PROFILE_UNIX_SOCKET'],
    usage: 'Serve profiles on the socket of the daemon.',
  }),
  flag({
    name: 'registries-conf',
    env: ['CONTAINER_REGISTRIES_CONF'],
    hidden: true,
    usage: 'Path to registries.conf.',
  }),
  flag({
    name: 'registries-conf-dir',
    env: ['CONTAINER_REGISTRIES_CONF_DIR'],
    hidden: true,
    usage: 'Path to registries.conf.d.',
  }),
  flag({ name: 'address', hidden: true, usage: 'Used by runtime shims that publish events.' }),
];

/** All global flags but --help and --version, sorted by name. */
export const globalFlags: readonly Flag[] = [...ownFlags, ...groupNames.flatMap(flagsOf)].sort((a, b) =>
  a.name < b.name ? -1 : 1,
);

function flagsOf(group: GroupName): readonly Flag[] {
  return optionsOf(group).flatMap(([key, option]) => {
    if (option.flag === undefined) return [];
    return [
      {
        name: option.flag,
        aliases: option.aliases ?? [],
        type: option.type,
        env: typeof option.env === 'string' ? [option.env] : (option.env ?? []),
        default: option.default,
        usage: option.doc,
        hidden: option.hidden ?? false,
        option: { group, key, option },
      },
    ];
  });
}

/** A flag that is set, and by what. */
export interface FlagValue {
  readonly flag: Flag;
  readonly value: string | boolean | number | readonly string[];
  /** `--log-level`, or the name of the environment variable. */
  readonly source: string;
}

/** By long name. */
export type FlagValues = ReadonlyMap<string, FlagValue>;

export function stringFlag(values: FlagValues, name: string): string | undefined {
  const value = values.get(name)?.value;
  return typeof value === 'string' ? value : undefined;
}

export function boolFlag(values: FlagValues, name: string): boolean {
  return values.get(name)?.value === true;
}
