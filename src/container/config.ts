import type { IdMapping, LinuxResources, NamespaceOptions, SecurityProfile, SelinuxOptions } from '../pod/config.ts';

/** What CreateContainer asks for, in own words: `cri/` copies it from the checked CRI message. */

/** Numbers as in CRI's MountPropagation; they are written to disk as numbers. */
export const MountPropagation = { private: 0, hostToContainer: 1, bidirectional: 2 } as const;
export type MountPropagation = (typeof MountPropagation)[keyof typeof MountPropagation];

export interface ContainerMount {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly readonly: boolean;
  readonly selinuxRelabel: boolean;
  readonly propagation: MountPropagation;
  readonly uidMappings: readonly IdMapping[];
  readonly gidMappings: readonly IdMapping[];
  readonly recursiveReadOnly: boolean;
  /** Image to mount instead of a host path; undefined for an ordinary mount. */
  readonly image: string | undefined;
  /** The name that the user wrote for `image`; policies go by it. */
  readonly userSpecifiedImage?: string;
  /** Id of the image or artifact that `image` was when policies were asked: this one is mounted. */
  readonly imageId?: string;
  readonly imageSubPath: string;
  readonly mountOptions: readonly string[];
}

export interface ContainerDevice {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly permissions: string;
}

export interface ContainerSecurityContext {
  readonly addCapabilities: readonly string[];
  readonly dropCapabilities: readonly string[];
  readonly privileged: boolean;
  readonly namespaceOptions: NamespaceOptions | undefined;
  readonly selinux: SelinuxOptions | undefined;
  readonly runAsUser: number | undefined;
  readonly runAsGroup: number | undefined;
  readonly runAsUsername: string;
  readonly readonlyRootfs: boolean;
  readonly supplementalGroups: readonly number[];
  readonly supplementalGroupsPolicy: 'merge' | 'strict';
  readonly noNewPrivs: boolean;
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly seccomp: SecurityProfile | undefined;
  readonly apparmor: SecurityProfile | undefined;
  /** The deprecated string form. */
  readonly apparmorProfile: string;
}

export interface ContainerConfig {
  readonly metadata: { readonly name: string; readonly attempt: number };
  /** Image reference of the request. */
  readonly image: string;
  /** `ImageSpec.user_specified_image` */
  readonly userSpecifiedImage: string;
  readonly imageAnnotations: ReadonlyMap<string, string>;
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly workingDir: string;
  readonly envs: readonly { readonly key: string; readonly value: string }[];
  readonly mounts: readonly ContainerMount[];
  readonly devices: readonly ContainerDevice[];
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly logPath: string;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  readonly tty: boolean;
  readonly resources: LinuxResources | undefined;
  /** Undefined when the request had none: defaults differ from an empty one (cri-behaviour 5). */
  readonly securityContext: ContainerSecurityContext | undefined;
  readonly cdiDevices: readonly string[];
  /** Signal number; 0 when the request names none. */
  readonly stopSignal: number;
}
