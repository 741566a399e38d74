import type { PodConfig, NamespaceOptions, PortMapping } from './config.ts';
import { chooseSysctls } from '../runtime/spec/sysctls.ts';
import { controlAnnotation, filterAnnotations } from '../runtime/spec/annotation-filter.ts';
import { parseQuantity } from '../base/quantity.ts';
import { CrioError } from '../base/errors.ts';
import type { Config, RuntimeHandlerConfig } from '../config/config.ts';
import { parentPath, resolveCgroupsPath } from '../cgroup/path.ts';
import { cgroupsPath } from '../runtime/spec/cgroups-path.ts';
import { chooseLogDirectory } from './files.ts';
import { infraName, podLabels } from './names.ts';
import {
  chooseUserNamespace,
  effectiveNamespaces,
  isInfraKept,
  isPrivileged,
  planNamespaces,
  rootOwner,
  type NamespacePlan,
  type UserNamespace,
} from './namespace-plan.ts';
import { chooseHostname } from './network-files.ts';
import { chooseShmSize } from './shm.ts';

/** All decisions about a new pod, made before anything is done. */
export interface PodPlan {
  readonly id: string;
  readonly name: string;
  readonly infraName: string;
  readonly createdAtNs: bigint;
  readonly config: PodConfig;
  readonly handler: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly namespaces: NamespaceOptions;
  readonly namespacePlan: NamespacePlan;
  readonly userNamespace: UserNamespace;
  readonly owner: { readonly uid: number; readonly gid: number };
  readonly hostNetwork: boolean;
  readonly hostIpc: boolean;
  readonly privileged: boolean;
  readonly infraKept: boolean;
  readonly hostname: string;
  readonly logDirectory: string;
  readonly logPath: string;
  /** As containers get it: with systemd the base name */
  readonly cgroupParent: string;
  /** Folder of the parent below each hierarchy's mount; undefined without a parent */
  readonly parentCgroup: string | undefined;
  /** Cgroup of a dropped infra container below each hierarchy's mount; undefined when none is made */
  readonly infraCgroup: string | undefined;
  readonly sysctls: ReadonlyMap<string, string>;
  /** For the log */
  readonly warnings: readonly string[];
  readonly shmSizeBytes: number;
  readonly portMappings: readonly PortMapping[];
}

export interface PlanRequest {
  readonly id: string;
  readonly name: string;
  readonly uuid: string;
  readonly createdAtNs: bigint;
  readonly podConfig: PodConfig;
  readonly handler: { readonly requested: string; readonly name: string; readonly config: RuntimeHandlerConfig };
  readonly config: Config;
  readonly hostHostname: string;
}

/** Pure. Throws CRI-O's texts for what a pod may not ask for. */
export function planPod(request: PlanRequest): PodPlan {
  const { id, name, uuid, createdAtNs, podConfig, handler, config } = request;
  const { runtime } = config;
  const namespaces = effectiveNamespaces(podConfig);
  const userNamespace = chooseUserNamespace(namespaces);
  const annotations = mergeAnnotations(podConfig.annotations, handler.config);
  refuseUnsupported(annotations);
  const infraKept = isInfraKept({
    dropInfraCtr: runtime.dropInfraCtr,
    namespaces,
    handler: handler.name,
    runtimeType: handler.config.runtimeType,
  });
  const hostNetwork = namespaces.network === 2;
  const { sysctls, warnings } = chooseSysctls({
    defaults: runtime.defaultSysctls,
    requested: podConfig.sysctls,
    namespaces,
    gidMap: userNamespace.gidMap,
  });
  const logDirectory = chooseLogDirectory({ requested: podConfig.logDirectory, logDir: config.crio.logDir, id });
  return {
    id,
    name,
    infraName: infraName(podConfig.metadata),
    createdAtNs,
    config: podConfig,
    handler: handler.requested,
    labels: podLabels(podConfig),
    annotations,
    namespaces,
    namespacePlan: planNamespaces({
      namespacesDir: runtime.namespacesDir,
      uuid,
      namespaces,
      hasUserNamespace: userNamespace.uidMap.length > 0,
    }),
    userNamespace,
    owner: rootOwner(userNamespace),
    hostNetwork,
    hostIpc: namespaces.ipc === 2,
    privileged: isPrivileged(podConfig),
    infraKept,
    hostname: chooseHostname({ requested: podConfig.hostname, hostNetwork, hostHostname: request.hostHostname, id }),
    logDirectory,
    logPath: `${logDirectory}/${id}.log`,
    ...planCgroups({ id, parent: podConfig.cgroupParent, manager: runtime.cgroupManager, infraKept }),
    sysctls,
    warnings,
    shmSizeBytes: chooseShmSize(controlAnnotation(annotations, 'shm-size.crio.io'), parseQuantity),
    portMappings: podConfig.portMappings.filter((mapping) => mapping.hostPort > 0),
  };
}

/** The handler's defaults, overridden by the pod's own that are allowed. */
function mergeAnnotations(own: ReadonlyMap<string, string>, handler: RuntimeHandlerConfig): Map<string, string> {
  return new Map([...handler.defaultAnnotations, ...filterAnnotations(own, handler.allowedAnnotations)]);
}

function refuseUnsupported(annotations: ReadonlyMap<string, string>): void {
  if (controlAnnotation(annotations, 'userns-mode.crio.io') === undefined) return;
  throw new CrioError('unimplemented', 'annotation userns-mode.crio.io: not supported yet, use userns_options');
}

function planCgroups(options: { id: string; parent: string; manager: 'cgroupfs' | 'systemd'; infraKept: boolean }) {
  const { id, parent, manager, infraKept } = options;
  // Throws when the parent does not suit the manager.
  const path = cgroupsPath({ manager, parent, id });
  const hasInfraCgroup = !infraKept && !(parent === '' && manager === 'systemd');
  return {
    cgroupParent: manager === 'systemd' ? parent.slice(parent.lastIndexOf('/') + 1) : parent,
    parentCgroup: parent === '' ? undefined : parentPath(manager, parent),
    infraCgroup: hasInfraCgroup ? resolveCgroupsPath(path) : undefined,
  };
}
