import type { Config, RuntimeHandlerConfig } from '../../config/config.ts';
import { canonicalCapability } from './capabilities.ts';
import type { SpecSettings } from './input.ts';

/** The options that shape a spec. `containerMinMemory` is the handler's, in bytes. */
export function specSettings(options: {
  readonly config: Config;
  readonly handler: RuntimeHandlerConfig;
  readonly containerMinMemory: number;
}): SpecSettings {
  const { runtime } = options.config;
  return {
    cgroupManager: runtime.cgroupManager === 'systemd' ? 'systemd' : 'cgroupfs',
    defaultCapabilities: runtime.defaultCapabilities.map(canonicalCapability),
    addInheritableCapabilities: runtime.addInheritableCapabilities,
    defaultEnv: runtime.defaultEnv,
    defaultUlimits: runtime.defaultUlimits,
    pidsLimit: runtime.pidsLimit,
    readOnly: runtime.readOnly,
    infraCtrCpuset: runtime.infraCtrCpuset,
    hostnetworkDisableSelinux: runtime.hostnetworkDisableSelinux,
    containerMinMemory: options.containerMinMemory,
    privilegedWithoutHostDevices: options.handler.privilegedWithoutHostDevices,
  };
}
