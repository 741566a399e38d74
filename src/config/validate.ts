import { CrioError, wrap } from '../base/errors.ts';
import { checkAnnotations } from './allowed-annotations.ts';
import { defaultConfig } from './config.ts';
import type { Config, UncheckedConfig } from './config.ts';
import { parseCapability, parseCpuset, parseDevice, parseSysctls, parseUlimit } from './entries.ts';
import { validateHandlers, withMonitorDefaults } from './handlers.ts';
import type { Workload } from './handler.ts';
import { lookPath } from './host.ts';
import type { ValidationContext } from './handlers.ts';
import { stripCollector } from './load.ts';
import type { LoadedConfig } from './load.ts';
import { collectors, groups } from './options.ts';
import { isKnownCipherSuite } from './tls.ts';

/** Every check that a rule makes reads `config`; what it returns replaces it. */
type Rule = (config: UncheckedConfig, context: ValidationContext) => UncheckedConfig | undefined;

/** The checks that `crio config` makes: of the values, hardly any of the host. Some values are rewritten. */
export function validateLight(config: UncheckedConfig, context: ValidationContext): UncheckedConfig {
  return runRules(lightRules, config, context);
}

/**
 * The checks at the start of the daemon. Handlers that cannot be used are dropped with a warning; paths of runtimes and
 * monitors are absolute afterwards. Folders, store, sockets and profiles are checked by the features that own them.
 */
export function validateFull(loaded: LoadedConfig, context: ValidationContext): Config {
  const config = runRules(lightRules, withCgroupManager(loaded, context), context);
  const checked = runRules(daemonRules, config, context);
  // The rules have checked every option with a fixed set of values.
  return checked as Config;
}

/** Checks handlers that a reload brought, as at start. */
export function validateReloaded(config: UncheckedConfig, context: ValidationContext): Config {
  const rules = [{ name: 'runtime', rules: [checkDefaultRuntime, withMonitorDefaults, validateHandlers] }];
  // All other options were checked at start, or by the step that reloads them.
  return runRules(rules, config, context) as Config;
}

interface Section {
  /** CRI-O's word in `validating <section> config: ...`; undefined for checks without that prefix. */
  readonly name: string | undefined;
  readonly rules: readonly Rule[];
}

const lightRules: readonly Section[] = [
  { name: undefined, rules: [checkImageVolumes] },
  { name: 'root', rules: [checkStoragePaths] },
  {
    name: 'runtime',
    rules: [
      checkGomaxprocs,
      checkArtifactStores,
      checkUlimits,
      checkDevices,
      checkDefaultRuntime,
      checkTimezone,
      checkLogSizeMax,
      raiseStopTimeout,
      checkSysctls,
      checkCapabilities,
      checkInfraCpuset,
      checkWorkloads,
      withMonitorDefaults,
    ],
  },
  { name: 'checkpoint/restore', rules: [checkCheckpointLevel] },
  { name: 'image', rules: [checkImagePaths, checkPauseImage, checkShortNameMode] },
  { name: 'network', rules: [checkGracePeriod, mergePluginDir] },
  { name: 'api', rules: [defaultMessageSizes, checkStreamTls, checkTlsVersion] },
  { name: 'stats', rules: [checkPodMetrics] },
  { name: 'metrics', rules: [warnOfCollectors] },
];

const daemonRules: readonly Section[] = [
  { name: 'root', rules: [checkLogDir] },
  { name: 'runtime', rules: [validateHandlers] },
];

function runRules(sections: readonly Section[], config: UncheckedConfig, context: ValidationContext): UncheckedConfig {
  let current = config;
  for (const { name, rules } of sections) {
    for (const rule of rules) {
      try {
        current = rule(current, context) ?? current;
      } catch (error) {
        throw name === undefined ? error : wrap(`validating ${name} config`, error);
      }
    }
  }
  return current;
}

function invalid(message: string): CrioError {
  return new CrioError('invalid', message);
}

function oneOf(option: string, value: string, choices: readonly string[]): undefined {
  if (!choices.includes(value))
    throw invalid(`invalid ${option} "${value}": not one of ${choices.map((c) => `"${c}"`).join(', ')}`);
}

function absolute(option: string, path: string): undefined {
  if (!path.startsWith('/')) throw invalid(`${option} "${path}" is not an absolute path`);
}

/** `systemd` is the default on paper; where nobody asked for it and systemd does not run, it is cgroupfs. */
function withCgroupManager(loaded: LoadedConfig, { host, log }: ValidationContext): UncheckedConfig {
  const { config, origins } = loaded;
  const { cgroupManager } = config.runtime;
  try {
    oneOf('cgroup_manager', cgroupManager, groups.runtime.options.cgroup_manager.choices ?? []);
    if (cgroupManager !== 'systemd' || host.typeOf('/run/systemd/system') === 'directory') return config;
    const origin = origins.get('crio.runtime.cgroup_manager');
    if (origin !== undefined)
      throw invalid(`cgroup_manager is "systemd" (${origin}), but systemd does not run on this host`);
  } catch (error) {
    throw wrap('validating runtime config', error);
  }
  log.warn('systemd does not run on this host, using cgroup_manager "cgroupfs"');
  return { ...config, runtime: { ...config.runtime, cgroupManager: 'cgroupfs' } };
}

function checkImageVolumes({ image }: UncheckedConfig): undefined {
  return oneOf('image_volumes', image.imageVolumes, groups.image.options.image_volumes.choices ?? []);
}

/** CRI-O makes them absolute from the folder that the daemon happens to run in, and the next command has another one. */
function checkStoragePaths({ crio }: UncheckedConfig): undefined {
  absolute('root', crio.root);
  absolute('runroot', crio.runroot);
  if (crio.imagestore !== '') absolute('imagestore', crio.imagestore);
}

function checkGomaxprocs({ runtime }: UncheckedConfig): undefined {
  if (runtime.minInjectedGomaxprocs < 0)
    throw invalid(`min_injected_gomaxprocs is negative: ${runtime.minInjectedGomaxprocs}`);
}

function checkArtifactStores({ runtime }: UncheckedConfig): undefined {
  for (const path of runtime.additionalArtifactStores) absolute('additional_artifact_stores', path);
}

function checkUlimits({ runtime }: UncheckedConfig): undefined {
  for (const entry of runtime.defaultUlimits) parseUlimit(entry);
}

function checkDevices({ runtime }: UncheckedConfig, { host }: ValidationContext): undefined {
  for (const entry of runtime.additionalDevices) {
    const { hostPath } = parseDevice(entry);
    // A folder stands for all devices in it.
    if (host.typeOf(hostPath) === undefined) throw invalid(`invalid device "${entry}": no such device on the host`);
  }
}

function checkDefaultRuntime(config: UncheckedConfig): UncheckedConfig | undefined {
  const { defaultRuntime, runtimes } = config.runtime;
  if (runtimes.has(defaultRuntime)) return undefined;
  if (defaultRuntime !== '')
    throw invalid(`default_runtime set to "${defaultRuntime}", but no runtime entry was found for it`);
  return { ...config, runtime: { ...config.runtime, defaultRuntime: 'crun', runtimes: withCrun(config) } };
}

function withCrun(config: UncheckedConfig): UncheckedConfig['runtime']['runtimes'] {
  const { runtimes } = config.runtime;
  return runtimes.has('crun') ? runtimes : new Map([...runtimes, ...defaultConfig().runtime.runtimes]);
}

function checkTimezone({ runtime }: UncheckedConfig): undefined {
  const { timezone } = runtime;
  if (timezone === '' || timezone.toLowerCase() === 'local') return;
  try {
    new Intl.DateTimeFormat('en', { timeZone: timezone });
  } catch (error) {
    if (error instanceof RangeError) throw invalid(`invalid timezone "${timezone}": unknown`);
    throw error;
  }
}

function checkLogSizeMax({ runtime }: UncheckedConfig): undefined {
  const { logSizeMax } = runtime;
  if (logSizeMax >= 0 && logSizeMax < 8192)
    throw invalid(`log size max should be negative or >= 8192, but is ${logSizeMax}`);
}

function raiseStopTimeout(config: UncheckedConfig, { log }: ValidationContext): UncheckedConfig | undefined {
  if (config.runtime.ctrStopTimeout >= 30) return undefined;
  log.warn(`ctr_stop_timeout of ${config.runtime.ctrStopTimeout} seconds is too low, using 30`);
  return { ...config, runtime: { ...config.runtime, ctrStopTimeout: 30 } };
}

function checkSysctls({ runtime }: UncheckedConfig): undefined {
  parseSysctls(runtime.defaultSysctls);
}

function checkCapabilities({ runtime }: UncheckedConfig): undefined {
  for (const name of runtime.defaultCapabilities) parseCapability(name);
}

function checkInfraCpuset({ runtime }: UncheckedConfig, { host }: ValidationContext): undefined {
  if (runtime.infraCtrCpuset === '') return;
  parseCpuset(runtime.infraCtrCpuset);
  if (lookPath(host, 'taskset') === undefined)
    throw invalid('infra_ctr_cpuset needs the program "taskset", which is not in $PATH');
}

function checkWorkloads({ runtime }: UncheckedConfig): undefined {
  for (const [name, workload] of runtime.workloads) {
    try {
      checkWorkload(workload);
    } catch (error) {
      throw wrap(`workload "${name}"`, error);
    }
  }
}

function checkWorkload({ activationAnnotation, allowedAnnotations, resources }: Workload): void {
  if (activationAnnotation === '') throw invalid('activation_annotation is empty');
  checkAnnotations(allowedAnnotations);
  if (resources === undefined) return;
  const { cpuset, cpuquota, cpushares, cpuperiod } = resources;
  parseCpuset(cpuset);
  if (cpuquota !== 0 && cpuquota < cpushares) throw invalid(`cpuquota ${cpuquota} is less than cpushares ${cpushares}`);
  if (cpuperiod !== 0 && cpuperiod < 1000) throw invalid(`cpuperiod ${cpuperiod} is less than 1000 microseconds`);
}

function checkCheckpointLevel(config: UncheckedConfig, { host, log }: ValidationContext): UncheckedConfig | undefined {
  const { containerLevelEnabled: level } = config.checkpointRestore;
  oneOf('container_level_enabled', level, groups.checkpointRestore.options.container_level_enabled.choices ?? []);
  if (level === 'none') return undefined;
  if (!config.runtime.enableCriuSupport) log.warn('enable_criu_support is false: checkpoint and restore are disabled');
  else if (lookPath(host, 'criu') === undefined)
    log.info('Checkpoint and restore are disabled: "criu" is not in $PATH');
  else return undefined;
  return { ...config, checkpointRestore: { containerLevelEnabled: 'none' } };
}

function checkImagePaths({ image }: UncheckedConfig): undefined {
  absolute('signature_policy_dir', image.signaturePolicyDir);
  absolute('namespaced_auth_dir', image.namespacedAuthDir);
}

/** Enough to refuse a transport, white space and capitals in the repository; the image feature parses it in full. */
const imageName = /^[a-z0-9A-Z.:[\]_-]+(?:\/[a-z0-9._-]+)*(?::\w[\w.-]{0,127})?(?:@\w+:[0-9a-f]{32,})?$/;

export function checkPauseImage({ image }: UncheckedConfig): undefined {
  if (!imageName.test(image.pauseImage))
    throw invalid(`invalid pause image "${image.pauseImage}": invalid reference format`);
}

function checkShortNameMode({ image }: UncheckedConfig): undefined {
  return oneOf('short_name_mode', image.shortNameMode, ['enforcing', 'disabled', '']);
}

function checkGracePeriod({ network }: UncheckedConfig): undefined {
  if (network.cniStatusGracePeriodMs < 0) throw invalid('cni_status_grace_period is negative');
}

/** The old single folder is one more of the new list. */
function mergePluginDir(config: UncheckedConfig, { log }: ValidationContext): UncheckedConfig | undefined {
  const { pluginDir, pluginDirs } = config.network;
  if (pluginDir === '') return undefined;
  log.warn('The config field plugin_dir is being deprecated. Please use plugin_dirs instead');
  return { ...config, network: { ...config.network, pluginDir: '', pluginDirs: [...pluginDirs, pluginDir] } };
}

function defaultMessageSizes(config: UncheckedConfig): UncheckedConfig {
  const { grpcMaxSendMsgSize, grpcMaxRecvMsgSize } = config.api;
  const { grpc_max_send_msg_size: send, grpc_max_recv_msg_size: receive } = groups.api.options;
  return {
    ...config,
    api: {
      ...config.api,
      grpcMaxSendMsgSize: grpcMaxSendMsgSize > 0 ? grpcMaxSendMsgSize : send.default,
      grpcMaxRecvMsgSize: grpcMaxRecvMsgSize > 0 ? grpcMaxRecvMsgSize : receive.default,
    },
  };
}

function checkStreamTls({ api }: UncheckedConfig): undefined {
  if (!api.streamEnableTls) return;
  if (api.streamTlsCert === '') throw invalid('stream TLS is enabled, but stream_tls_cert is not set');
  if (api.streamTlsKey === '') throw invalid('stream TLS is enabled, but stream_tls_key is not set');
}

function checkTlsVersion({ api }: UncheckedConfig, { log }: ValidationContext): undefined {
  oneOf('tls_min_version', api.tlsMinVersion, ['VersionTLS12', 'VersionTLS13', '']);
  if (api.tlsCipherSuites.length === 0) return;
  if (api.tlsMinVersion === 'VersionTLS13') {
    log.warn('tls_cipher_suites is ignored, because tls_min_version is VersionTLS13');
    return;
  }
  for (const name of api.tlsCipherSuites) {
    if (!isKnownCipherSuite(name)) throw invalid(`invalid tls_cipher_suites "${name}": unknown`);
  }
}

const podMetrics = ['cpu', 'disk', 'diskIO', 'hugetlb', 'memory', 'network', 'oom', 'process', 'spec', 'pressure'];

function checkPodMetrics({ stats }: UncheckedConfig): undefined {
  const names = stats.includedPodMetrics;
  if (names.includes('all') && names.length > 1) throw invalid('included_pod_metrics: "all" must stand alone');
  for (const name of names) if (name !== 'all') oneOf('included_pod_metrics', name, podMetrics);
}

/** A warning only: CRI-O takes any name, and has no metric for it. */
function warnOfCollectors({ metrics }: UncheckedConfig, { log }: ValidationContext): undefined {
  for (const name of metrics.metricsCollectors) {
    if (!collectors.includes(stripCollector(name)))
      log.warn(`metrics_collectors: "${name}" is no metric: nothing is collected for it`);
  }
}

function checkLogDir({ crio }: UncheckedConfig): undefined {
  absolute('log_dir', crio.logDir);
}
