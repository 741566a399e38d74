/** Entries of the tables `runtimes` and `workloads`. The option table in `options.ts` has one field for each here. */

/** `[crio.runtime.runtimes.<handler>]`; zero values are those of an entry that leaves the field out. */
export interface Handler {
  /** Empty: the handler's name is looked up in $PATH; after validation an absolute path. */
  readonly runtimePath: string;
  /** `` means oci; filled in by validation. */
  readonly runtimeType: string;
  readonly runtimeRoot: string;
  readonly inheritDefaultRuntime: boolean;
  readonly runtimeConfigPath: string;
  /** `500KiB`; empty: 12 MiB. `minMemoryBytes` reads it. */
  readonly containerMinMemory: string;
  /** Empty: conmon in $PATH; after validation an absolute path. */
  readonly monitorPath: string;
  readonly monitorCgroup: string;
  readonly monitorExecCgroup: string;
  readonly monitorEnv: readonly string[];
  readonly privilegedWithoutHostDevices: boolean;
  readonly allowedAnnotations: readonly string[];
  readonly defaultAnnotations: ReadonlyMap<string, string>;
  readonly platformRuntimePaths: ReadonlyMap<string, string>;
  readonly noSyncLog: boolean;
  readonly runtimePullImage: boolean;
  readonly streamWebsockets: boolean;
  readonly execCpuAffinity: string;
  readonly seccompProfile: string;
  /** Seconds; 240 after validation of 0. */
  readonly containerCreateTimeout: number;
}

export interface WorkloadResources {
  readonly cpushares: number;
  /** Microseconds */
  readonly cpuquota: number;
  /** Microseconds */
  readonly cpuperiod: number;
  readonly cpuset: string;
  /** Thousandths of a CPU */
  readonly cpulimit: number;
}

export interface Workload {
  readonly activationAnnotation: string;
  readonly annotationPrefix: string;
  readonly allowedAnnotations: readonly string[];
  readonly resources: WorkloadResources | undefined;
}
