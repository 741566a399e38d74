import { CrioError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { checkAnnotations } from './allowed-annotations.ts';
import type { UncheckedConfig } from './config.ts';
import type { Handler } from './handler.ts';
import { lookPath } from './host.ts';
import type { Host } from './host.ts';

/** What validation is done with. */
export interface ValidationContext {
  readonly host: Host;
  readonly log: Logger;
}

/** The deprecated options of the monitor go to all handlers of type oci; with systemd it runs in `system.slice`. */
export function withMonitorDefaults(config: UncheckedConfig): UncheckedConfig {
  const { conmon, conmonCgroup, conmonEnv, cgroupManager, runtimes } = config.runtime;
  const update = (handler: Handler): Handler => {
    if (!isOci(handler)) return handler;
    const monitorCgroup = conmonCgroup === '' ? handler.monitorCgroup : conmonCgroup;
    return {
      ...handler,
      monitorPath: conmon === '' ? handler.monitorPath : conmon,
      monitorCgroup: monitorCgroup === '' && cgroupManager === 'systemd' ? 'system.slice' : monitorCgroup,
      monitorEnv: conmonEnv.length === 0 ? handler.monitorEnv : conmonEnv,
    };
  };
  const entries = [...runtimes].map(([name, handler]) => [name, update(handler)] as const);
  return { ...config, runtime: { ...config.runtime, runtimes: new Map(entries) } };
}

/** Drops handlers that cannot be used; that the default one, or any monitor, cannot be used is an error. */
export function validateHandlers(config: UncheckedConfig, context: ValidationContext): UncheckedConfig {
  const { runtimes, defaultRuntime } = config.runtime;
  const usable = new Map<string, Handler>();
  for (const [name, handler] of runtimes) {
    const checked = checkHandler(name, handler, config, context);
    if (checked !== undefined) usable.set(name, checked);
  }
  for (const [name, handler] of usable) {
    if (isOci(handler)) usable.set(name, withMonitor(name, handler, config, context.host));
  }
  if (!usable.has(defaultRuntime)) throw new CrioError('invalid', `default_runtime "${defaultRuntime}" cannot be used`);
  return { ...config, runtime: { ...config.runtime, runtimes: usable } };
}

function checkHandler(
  name: string,
  handler: Handler,
  config: UncheckedConfig,
  { host, log }: ValidationContext,
): Handler | undefined {
  try {
    return validateHandler(name, inherit(handler, config), host);
  } catch (error) {
    if (!(error instanceof CrioError)) throw error;
    if (name === config.runtime.defaultRuntime) throw error;
    log.warn(`Runtime handler is dropped: ${messageOf(error)}`);
    return undefined;
  }
}

function inherit(handler: Handler, config: UncheckedConfig): Handler & { readonly lookUp?: string } {
  const { runtimes, defaultRuntime } = config.runtime;
  const base = runtimes.get(defaultRuntime);
  if (!handler.inheritDefaultRuntime || base === undefined) return handler;
  const { runtimePath, runtimeType, runtimeRoot, runtimeConfigPath } = base;
  return { ...handler, runtimePath, runtimeType, runtimeRoot, runtimeConfigPath, lookUp: defaultRuntime };
}

function validateHandler(name: string, source: Handler & { readonly lookUp?: string }, host: Host): Handler {
  const { lookUp = name, ...handler } = source;
  const runtimeType = handler.runtimeType === '' ? 'oci' : handler.runtimeType;
  if (!['oci', 'vm', 'pod'].includes(runtimeType)) throw invalid(name, `invalid runtime_type "${runtimeType}"`);
  if (runtimeType !== 'oci') throw invalid(name, `runtime_type "${runtimeType}" is not supported yet`);
  if (handler.runtimeConfigPath !== '') throw invalid(name, 'runtime_config_path is only for runtime_type "vm"');
  if (handler.streamWebsockets) throw invalid(name, 'stream_websockets is only for runtime_type "pod"');
  if (!['', 'first'].includes(handler.execCpuAffinity))
    throw invalid(name, `invalid exec_cpu_affinity "${handler.execCpuAffinity}"`);
  checkHandlerAnnotations(name, handler);
  if (handler.seccompProfile !== '' && host.typeOf(handler.seccompProfile) !== 'file') {
    throw invalid(name, `read seccomp_profile "${handler.seccompProfile}": no such file`);
  }
  return {
    ...handler,
    runtimeType,
    runtimePath: runtimePathOf(name, handler.runtimePath, lookUp, host),
    runtimeRoot: handler.runtimeRoot === '' ? '/run/crun' : handler.runtimeRoot,
    containerCreateTimeout: createTimeout(handler.containerCreateTimeout),
  };
}

function checkHandlerAnnotations(name: string, handler: Handler): void {
  try {
    checkAnnotations(handler.allowedAnnotations);
  } catch (error) {
    throw invalid(name, messageOf(error));
  }
}

function runtimePathOf(name: string, path: string, lookUp: string, host: Host): string {
  if (path !== '') {
    if (host.isExecutable(path)) return path;
    throw invalid(name, `runtime_path "${path}" is not an executable file`);
  }
  const found = lookPath(host, lookUp);
  if (found === undefined) throw invalid(name, `runtime "${lookUp}" is not in $PATH`);
  return found;
}

/** Seconds; nobody gets less than 30. */
function createTimeout(seconds: number): number {
  return seconds === 0 ? 240 : Math.max(30, seconds);
}

function withMonitor(name: string, handler: Handler, config: UncheckedConfig, host: Host): Handler {
  const { monitorPath, monitorCgroup } = handler;
  const path = monitorPath === '' ? lookPath(host, 'conmon') : monitorPath;
  if (path === undefined) throw invalid(name, 'monitor "conmon" is not in $PATH');
  if (!path.startsWith('/') || !host.isExecutable(path))
    throw invalid(name, `monitor_path "${path}" is not an executable file`);
  return {
    ...handler,
    monitorPath: path,
    monitorCgroup: monitorCgroupOf(name, monitorCgroup, config.runtime.cgroupManager),
  };
}

function monitorCgroupOf(name: string, cgroup: string, manager: string): string {
  if (cgroup === 'pod') return cgroup;
  if (manager === 'systemd') {
    if (cgroup.endsWith('.slice')) return cgroup;
    throw invalid(name, `monitor_cgroup "${cgroup}" is neither "pod" nor a slice`);
  }
  if (cgroup === '' || cgroup === 'system.slice') return '';
  throw invalid(name, `monitor_cgroup "${cgroup}" is neither "pod" nor empty, as cgroupfs needs`);
}

function isOci(handler: Handler): boolean {
  return handler.runtimeType === '' || handler.runtimeType === 'oci';
}

function invalid(name: string, problem: string): CrioError {
  return new CrioError('invalid', `runtime handler "${name}": ${problem}`);
}
