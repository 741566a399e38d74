import type { PodId } from '../base/ids.ts';
import type { ProcessRef } from '../runtime/runtime.ts';
import type { NamespaceOptions, PodMetadata, PortMapping, IdMapping } from './config.ts';

/** A pod sandbox in memory. `store.ts` owns it; only functions of this feature change it. */
export interface Pod {
  readonly id: PodId;
  /** Reserved name `k8s_<pod>_<namespace>_<uid>_<attempt>` */
  readonly name: string;
  readonly metadata: PodMetadata;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly createdAtNs: bigint;
  readonly runtimeHandler: string;
  readonly hostname: string;
  /** Parent cgroup as given, `` when none */
  readonly cgroupParent: string;
  readonly logDirectory: string;
  readonly namespaceOptions: NamespaceOptions;
  readonly hostNetwork: boolean;
  /** True when the security context says so, or it uses a namespace of the node (cri-behaviour 4). */
  readonly privileged: boolean;
  readonly portMappings: readonly PortMapping[];
  readonly sysctls: ReadonlyMap<string, string>;
  readonly uidMap: readonly IdMapping[];
  readonly gidMap: readonly IdMapping[];
  /** Pinned namespaces: type to path of the bind mount. */
  readonly namespacePaths: ReadonlyMap<'network' | 'ipc' | 'uts' | 'user', string>;
  readonly directory: string;
  readonly runDirectory: string;
  readonly shmPath: string;
  readonly resolvPath: string;
  readonly hostnamePath: string;
  readonly containerEnvPath: string;
  readonly mountLabel: string;
  readonly processLabel: string;
  readonly infraName: string;
  /** Name of the pause image it was made with. */
  readonly infraImage: string;
  /** Init process of the kept infra container; undefined when it was dropped. */
  infra: ProcessRef | undefined;
  readonly infraDropped: boolean;
  /** In result order; the first is the pod IP. */
  ips: readonly string[];
  isReady: boolean;
  /** A stop is at work: it has looked for containers already, so none may be added. */
  isStopping: boolean;
  isNetworkStopped: boolean;
  /** The OCI spec as it is in config.json, for PodSandboxStatus verbose. */
  readonly spec: unknown;
}
