import { CrioError, hasCode, wrap } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { defaultConfig, emptyHandler, withOption } from './config.ts';
import type { UncheckedConfig } from './config.ts';
import { decodeFile } from './decode.ts';
import { stringFlag } from './flags.ts';
import type { FlagValue, FlagValues } from './flags.ts';
import type { Handler } from './handler.ts';
import type { Host } from './host.ts';
import { absent } from './option.ts';
import { groups } from './options.ts';
import { loadStorageDefaults, storageWarnings } from './storage-conf.ts';
import { parseMemory } from './memory.ts';

export interface LoadedConfig {
  readonly config: UncheckedConfig;
  /** Dotted TOML key -> where it was set: `/etc/crio/crio.conf:12`, `--log-level` or a variable. Only what was set. */
  readonly origins: ReadonlyMap<string, string>;
}

/** Built-in defaults, with those of storage.conf and of the host. */
export function hostDefaults(host: Host): UncheckedConfig {
  const config: UncheckedConfig = defaultConfig();
  const storage = loadStorageDefaults(host);
  return {
    ...config,
    crio: {
      ...config.crio,
      root: storage.root,
      runroot: storage.runroot,
      imagestore: storage.imagestore,
      storageDriver: storage.driver,
      storageOption: storage.options.length === 0 ? absent : storage.options,
    },
    runtime: { ...config.runtime, selinux: host.typeOf('/sys/fs/selinux/enforce') !== undefined },
  };
}

/** Defaults, main file, drop-ins, then flags and environment. */
export function loadConfig(host: Host, flags: FlagValues, log: Logger): LoadedConfig {
  const files = loadFiles(host, flags, log);
  return applyFlags(files, flags, log);
}

/** Without flags and environment, as a reload reads it. */
export function loadFiles(host: Host, flags: FlagValues, log: Logger): LoadedConfig {
  const main = stringFlag(flags, 'config') ?? '/etc/crio/crio.conf';
  const folder = stringFlag(flags, 'config-dir') ?? '/etc/crio/crio.conf.d';
  let loaded: LoadedConfig = { config: hostDefaults(host), origins: new Map() };
  for (const warning of storageWarnings(host)) log.warn(warning);
  const files = [...mainFile(main, flags.has('config'), host, log), ...dropIns(folder, host, log)];
  for (const { path, kind } of files) {
    log.info(`Updating config from ${kind}: ${path}`);
    loaded = update(loaded, path, host, log);
  }
  return loaded;
}

interface ConfigFile {
  readonly path: string;
  readonly kind: 'single file' | 'drop-in file';
}

function mainFile(path: string, isExplicit: boolean, host: Host, log: Logger): readonly ConfigFile[] {
  if (path === '') return [];
  if (host.typeOf(path) !== undefined) return [{ path, kind: 'single file' }];
  if (isExplicit) throw new CrioError('not-found', `read configuration file "${path}": no such file`);
  log.info(`Skipping not-existing config file "${path}"`);
  return [];
}

/** Every entry of the folder and the folders in it, whatever its extension; a symbolic link counts as a file. */
function dropIns(path: string, host: Host, log: Logger): readonly ConfigFile[] {
  const type = path === '' ? undefined : host.typeOf(path);
  if (type === undefined) return [];
  if (type !== 'directory') return [{ path, kind: 'drop-in file' }];
  log.info(`Updating config from path: ${path}`);
  return walk(path.replace(/(?<=.)\/+$/, ''), host).map((file) => ({ path: file, kind: 'drop-in file' }));
}

function walk(folder: string, host: Host): readonly string[] {
  return host.list(folder).flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    return isDirectory ? walk(path, host) : [path];
  });
}

function update(loaded: LoadedConfig, path: string, host: Host, log: Logger): LoadedConfig {
  const decoded = decodeFile(loaded.config, path, readConfigFile(path, host));
  for (const warning of decoded.warnings) log.warn(warning);
  return { config: decoded.config, origins: new Map([...loaded.origins, ...decoded.origins]) };
}

function readConfigFile(path: string, host: Host): Uint8Array {
  try {
    return host.readFile(path);
  } catch (error) {
    if (hasCode(error, 'EISDIR')) throw new CrioError('invalid', `read configuration file "${path}": is a directory`);
    throw wrap(`read configuration file "${path}"`, error);
  }
}

function applyFlags(loaded: LoadedConfig, flags: FlagValues, log: Logger): LoadedConfig {
  let { config } = loaded;
  const origins = new Map(loaded.origins);
  for (const { flag, value, source } of flags.values()) {
    if (flag.option === undefined) continue;
    const { group, key, option } = flag.option;
    const merged = key === 'runtimes' ? withHandlers(config.runtime.runtimes, value) : optionValue(key, value);
    config = withOption(config, group, key, option, merged);
    origins.set(`${groups[group].table}.${key}`, source);
    if (source === 'CONTAINER_INCLUDED_POD_METRCIS') {
      log.warn('Environment variable CONTAINER_INCLUDED_POD_METRCIS is misspelt, use CONTAINER_INCLUDED_POD_METRICS');
    }
  }
  return { config, origins };
}

/** Names of collectors given by flag are stored without their prefixes. */
function optionValue(key: string, value: FlagValue['value']): unknown {
  if (key !== 'metrics_collectors' || typeof value !== 'object') return value;
  return value.map(stripCollector);
}

/** `container_runtime_crio_operations_total`, `crio_operations_total` and `operations_total` are the same one. */
export function stripCollector(name: string): string {
  return name.replace(/^container_runtime_/, '').replace(/^crio_/, '');
}

function withHandlers(handlers: ReadonlyMap<string, Handler>, value: FlagValue['value']): ReadonlyMap<string, Handler> {
  const entries = typeof value === 'object' ? value : [];
  return new Map([...handlers, ...entries.map(parseHandler)]);
}

/** `name:path:root[:type[:privileged_without_host_devices[:config_path[:container_min_memory]]]]` */
function parseHandler(text: string): readonly [string, Handler] {
  const [name = '', runtimePath, runtimeRoot, type = 'oci', privileged = '', configPath = '', memory = '', ...more] =
    text.split(':');
  if (runtimePath === undefined || runtimeRoot === undefined || more.length > 0) {
    throw new CrioError(
      'invalid',
      `wrong format for --runtimes: "${text}", expected name:path:root[:type[:privileged_without_host_devices[:config_path[:container_min_memory]]]]`,
    );
  }
  if (memory !== '' && parseMemory(memory) === undefined) {
    throw new CrioError('invalid', `invalid value "${memory}" for container_min_memory in --runtimes "${text}"`);
  }
  const handler = {
    ...emptyHandler(),
    runtimePath,
    runtimeRoot,
    runtimeType: type,
    privilegedWithoutHostDevices: privileged === 'true',
    runtimeConfigPath: configPath,
    containerMinMemory: memory,
  };
  return [name, handler];
}
