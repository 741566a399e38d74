import type { ContainerId, PodId } from '../base/ids.ts';
import type { ProcessRef } from '../runtime/runtime.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import type { LinuxResources } from '../pod/config.ts';
import type { ContainerMount } from './config.ts';

export type ContainerStatus = 'created' | 'running' | 'paused' | 'stopped' | 'unknown';

/** A container in memory. `store.ts` owns it; only functions of this feature change it. */
export interface Container {
  readonly id: ContainerId;
  /** Reserved name `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>` */
  readonly name: string;
  readonly podId: PodId;
  readonly metadata: { readonly name: string; readonly attempt: number };
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly runtimeHandler: string;
  /** The string of the create request; lists answer with it. */
  readonly requestedImage: string;
  /** Some name of the image at creation; status answers with it. */
  readonly imageName: string;
  readonly imageId: string;
  /** First repo digest at creation, else the image id. */
  readonly imageRef: string;
  readonly mounts: readonly ContainerMount[];
  readonly logPath: string;
  readonly terminal: boolean;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  /** Number of the signal that a stop sends first. */
  readonly stopSignal: number;
  /** Number of the signal that the request or the image names; 0 when neither does. */
  readonly stopSignalRequested: number;
  readonly privileged: boolean;
  readonly createdAtNs: bigint;
  readonly directory: string;
  readonly bundle: string;
  readonly mountPoint: string;
  /** As in config.json. */
  readonly spec: Spec;
  resources: LinuxResources | undefined;
  readonly state: ContainerState;
  /** Grows with every change that a list or a status shows. */
  version: number;
}

/** The part that changes, and that `state.json` holds. */
export interface ContainerState {
  status: ContainerStatus;
  init: ProcessRef | undefined;
  monitor: ProcessRef | undefined;
  /** 0n before */
  startedAtNs: bigint;
  /** 0n before */
  finishedAtNs: bigint;
  /** Undefined until it is known. */
  exitCode: number | undefined;
  oomKilled: boolean;
  seccompKilled: boolean;
  error: string;
}
