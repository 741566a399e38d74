import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Config, RuntimeHandlerConfig } from '../config/config.ts';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { runtimeEnvironment } from './command.ts';
import type { RuntimeCommand } from './command.ts';
import type { MonitorSettings } from './conmon.ts';
import { detectFeatures } from './features.ts';
import { sealsItself } from './sealed-program.ts';
import { createOciRuntime, type RuntimeLimits } from './oci.ts';
import type { ContainerRuntime, RuntimeFeatures } from './runtime.ts';

export interface CreateRuntimesOptions {
  readonly config: Config;
  readonly log: Logger;
  /** Pids of all processes of a container now. */
  readonly processesOf: (id: string) => readonly number[];
  /** After each creation: handler, container, and the runtime's directory of it. */
  readonly onCreated?: (handler: string, id: string, stateDir: string) => void;
}

/** A runtime, and where it keeps the state of its containers. */
export interface HandlerRuntime {
  readonly runtime: ContainerRuntime;
  readonly stateRoot: string;
}

/** One runtime per configured handler. Programs are asked for their abilities once each, all at the same time. */
export async function createRuntimes(options: CreateRuntimesOptions): Promise<Map<string, HandlerRuntime>> {
  const { config, log, processesOf, onCreated } = options;
  const temporary = temporaryFolder(config, log);
  const asked = new Map<string, Promise<RuntimeFeatures>>();
  const runtimes = new Map<string, HandlerRuntime>();
  const entries = [...config.runtime.runtimes].filter(([handler, settings]) => isOci(handler, settings, log));
  for (const [, { runtimePath }] of entries) {
    if (!asked.has(runtimePath)) asked.set(runtimePath, detectFeatures(runtimePath, log));
  }
  for (const [handler, settings] of entries) {
    const features = await asked.get(settings.runtimePath);
    if (features === undefined) continue;
    const mayBeSealed = sealsItself(features.version);
    const command = { ...commandOf(config, handler, { settings, temporary }), mayBeSealed };
    const created = onCreated === undefined ? undefined : (id: string, dir: string) => onCreated(handler, id, dir);
    const monitor = monitorOf(config, settings);
    const runtime = createOciRuntime({
      command,
      monitor,
      features,
      processesOf,
      onCreated: created,
      limits: limitsOf(settings),
    });
    runtimes.set(handler, { runtime, stateRoot: command.root });
  }
  return runtimes;
}

function isOci(handler: string, { runtimeType }: RuntimeHandlerConfig, log: Logger): boolean {
  if (runtimeType === '' || runtimeType === 'oci') return true;
  log.warn(
    `runtime handler "${handler}": runtime_type "${runtimeType}" has no effect yet, the handler is not available`,
  );
  return false;
}

/**
 * Where crun makes a file, at each start, over which it binds itself (CVE-2019-5736); else that is in /tmp, and a crun that
 * is killed leaves it there. What earlier ones left goes now.
 */
function temporaryFolder({ runtime }: Config, log: Logger): string {
  const folder = join(dirname(runtime.containerExitsDir), 'runtime-tmp');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(folder)) {
    try {
      rmSync(join(folder, name));
    } catch (error) {
      // One that starts at this moment.
      log.debug(() => `delete ${join(folder, name)}: ${messageOf(error)}`);
    }
  }
  return folder;
}

function commandOf(
  config: Config,
  handler: string,
  { settings, temporary }: { readonly settings: RuntimeHandlerConfig; readonly temporary: string },
): RuntimeCommand {
  return {
    handler,
    path: settings.runtimePath,
    root: stateRootOf(settings),
    systemdCgroup: config.runtime.cgroupManager === 'systemd',
    env: { _LIBCONTAINER_STATEDIR: temporary, ...runtimeEnvironment(settings.monitorEnv, process.env) },
    execCpuAffinity: settings.execCpuAffinity,
    cpuset: config.runtime.infraCtrCpuset,
  };
}

/** Where a handler's runtime keeps the state of its containers. */
export function stateRootOf({
  runtimeRoot,
  runtimePath,
}: Pick<RuntimeHandlerConfig, 'runtimeRoot' | 'runtimePath'>): string {
  return runtimeRoot === '' ? `/run/${basename(runtimePath)}` : runtimeRoot;
}

/** A start may take as long as a creation. */
function limitsOf({ containerCreateTimeout: seconds }: RuntimeHandlerConfig): Partial<RuntimeLimits> {
  return seconds > 0 ? { start: seconds * 1000 } : {};
}

function monitorOf({ runtime }: Config, settings: RuntimeHandlerConfig): MonitorSettings {
  return {
    path: settings.monitorPath,
    exitsDir: runtime.containerExitsDir,
    attachSocketDir: runtime.containerAttachSocketDir,
    logLevel: runtime.logLevel,
    logSizeMax: runtime.logSizeMax,
    logToJournald: runtime.logToJournald,
    noPivot: runtime.noPivot,
    noSyncLog: settings.noSyncLog,
  };
}
