import type { Config, RuntimeHandlerConfig } from '../config/config.ts';
import type { SecurityProfile } from '../pod/config.ts';
import type { HostFacts, SeccompChoice } from '../runtime/spec/input.ts';
import { chooseSeccomp } from './seccomp-profiles.ts';

/** The seccomp decision for infra containers. A pod without a security context is handed in as `runtime-default`. */
export function createPodSeccomp(deps: { readonly config: () => Config; readonly host: HostFacts }) {
  return (request: {
    readonly profile: SecurityProfile | undefined;
    /** As in Pod.privileged */
    readonly privileged: boolean;
    readonly handler: RuntimeHandlerConfig;
  }): Promise<SeccompChoice> => {
    const { runtime } = deps.config();
    return chooseSeccomp({
      profile: request.profile,
      privileged: request.privileged,
      isInfra: true,
      isEnabled: deps.host.seccomp,
      runtimeDefaultPath:
        request.handler.seccompProfile === '' ? runtime.seccompProfile : request.handler.seccompProfile,
      privilegedPath: runtime.privilegedSeccompProfile,
    });
  };
}
