import type { Call } from '../base/call.ts';
import type { Image } from '../image/images.ts';
import type { PodConfig } from '../pod/config.ts';
import type { Pod } from '../pod/pod.ts';
import type { ContainerRuntime, ProcessRef } from '../runtime/runtime.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import type { ContainerConfig, ContainerMount } from './config.ts';

/** What is known when a container's spec is to be computed. */
export interface PrepareRequest {
  readonly call: Call;
  readonly id: string;
  readonly name: string;
  readonly createdAtNs: bigint;
  readonly pod: Pod;
  readonly podConfig: PodConfig;
  readonly config: ContainerConfig;
  readonly image: Image;
  /** Some name of the image, `` when it has none. */
  readonly imageName: string;
  readonly runtime: ContainerRuntime;
  readonly bundle: string;
  readonly directory: string;
  readonly logPath: string;
  /** Mounts the root file system (once) and returns where. */
  readonly mountRootfs: () => Promise<string>;
  /** Init process of another container of the pod, for a shared PID namespace. */
  readonly findTarget: (containerId: string) => ProcessRef | undefined;
  /** Takes back what was made outside of the container's own directories, when the creation fails. */
  readonly undo: AsyncDisposableStack;
}

export interface PreparedContainer {
  readonly spec: Spec;
  /** As in the request, with the host paths that were resolved. */
  readonly volumes: readonly ContainerMount[];
  /** The container's own annotations after those that are not allowed were taken out. */
  readonly annotations: ReadonlyMap<string, string>;
  /** Number; 0 when neither request nor image names one. */
  readonly stopSignal: number;
  /** For the runtime alone: they stand only in the bundle's config.json, not in the container's record. */
  readonly runtimeAnnotations?: Readonly<Record<string, string>>;
}

/** Reads and makes what a container needs, and computes its spec. Enters the stages from volumes to spec. */
export type PrepareContainer = (request: PrepareRequest) => Promise<PreparedContainer>;
