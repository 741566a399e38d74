/**
 * A seccomp profile as it is written in profile files (the format docker, podman and CRI-O share): rules may depend on
 * architecture and capabilities. `convertProfile` turns it into the `linux.seccomp` of a spec.
 */
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly defaultErrno?: string;
  readonly architectures?: readonly string[];
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures: readonly string[] }[];
  readonly flags?: readonly string[];
  readonly listenerPath?: string;
  readonly listenerMetadata?: string;
  readonly syscalls: readonly SeccompRule[];
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  /** Name of an error (`ENOSYS`) or a number as text; wins over errnoRet. */
  readonly errno?: string;
  readonly args?: readonly SeccompArgument[];
  readonly includes?: RuleCondition;
  readonly excludes?: RuleCondition;
}

export interface SeccompArgument {
  readonly index: number;
  readonly value: number | bigint;
  readonly valueTwo?: number | bigint;
  readonly op: string;
}

/** Architectures by their Go names. */
export interface RuleCondition {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
}
