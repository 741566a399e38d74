import { constants } from 'node:os';
import { CrioError } from '../../base/errors.ts';
import type { Seccomp } from './oci.ts';
import type { RuleCondition, SeccompArgument, SeccompProfile, SeccompRule } from './seccomp-profile.ts';

export interface SeccompTarget {
  /** GOARCH name */
  readonly architecture: string;
  /** Bounding set of the container, `CAP_` names */
  readonly capabilities: readonly string[];
}

const nativeNames: Readonly<Record<string, string>> = {
  amd64: 'SCMP_ARCH_X86_64',
  arm64: 'SCMP_ARCH_AARCH64',
  arm: 'SCMP_ARCH_ARM',
  '386': 'SCMP_ARCH_X86',
  ppc64le: 'SCMP_ARCH_PPC64LE',
  s390x: 'SCMP_ARCH_S390X',
  riscv64: 'SCMP_ARCH_RISCV64',
};

/**
 * The `linux.seccomp` of one container: rules for other architectures and capabilities are dropped. Undefined when the
 * profile says nothing at all. Throws CrioError `invalid`.
 */
export function convertProfile(profile: SeccompProfile, target: SeccompTarget): Seccomp | undefined {
  if (profile.defaultAction === '' && profile.syscalls.length === 0) return undefined;
  const capabilities = new Set(target.capabilities);
  const defaultErrno = profile.defaultErrno ? errnoOf(profile.defaultErrno) : profile.defaultErrnoRet;
  const architectures = architecturesOf(profile, target.architecture);
  return {
    defaultAction: profile.defaultAction,
    ...(defaultErrno === undefined ? {} : { defaultErrnoRet: defaultErrno }),
    ...(architectures.length === 0 ? {} : { architectures }),
    ...(profile.flags && profile.flags.length > 0 ? { flags: [...profile.flags] } : {}),
    ...(profile.listenerPath ? { listenerPath: profile.listenerPath } : {}),
    ...(profile.listenerMetadata ? { listenerMetadata: profile.listenerMetadata } : {}),
    syscalls: profile.syscalls.filter((rule) => applies(rule, target.architecture, capabilities)).map(convertRule),
  };
}

function architecturesOf(profile: SeccompProfile, architecture: string): string[] {
  if (profile.archMap === undefined || profile.archMap.length === 0) return [...(profile.architectures ?? [])];
  const native = nativeNames[architecture];
  const entry = profile.archMap.find((other) => other.architecture === native);
  return entry === undefined ? [] : [entry.architecture, ...entry.subArchitectures];
}

/** One excluded capability that is there, or one included that is not, drops the rule. */
function applies(rule: SeccompRule, architecture: string, capabilities: ReadonlySet<string>): boolean {
  const { includes, excludes } = rule;
  if (excludes?.arches?.includes(architecture)) return false;
  if (hasArches(includes) && !includes.arches.includes(architecture)) return false;
  if (excludes?.caps?.some((name) => capabilities.has(name))) return false;
  return !includes?.caps?.some((name) => !capabilities.has(name));
}

function hasArches(condition: RuleCondition | undefined): condition is RuleCondition & { arches: readonly string[] } {
  return condition?.arches !== undefined && condition.arches.length > 0;
}

function convertRule(rule: SeccompRule): NonNullable<Seccomp['syscalls']>[number] {
  const errnoRet = rule.errno ? errnoOf(rule.errno) : rule.errnoRet;
  return {
    names: [...rule.names],
    action: rule.action,
    ...(errnoRet === undefined ? {} : { errnoRet }),
    ...(rule.args && rule.args.length > 0 ? { args: rule.args.map(convertArgument) } : {}),
  };
}

/** A second value of 0 means the same as none, and is left out as CRI-O leaves it out. */
function convertArgument({ index, value, valueTwo, op }: SeccompArgument): {
  index: number;
  value: number | bigint;
  valueTwo?: number | bigint;
  op: string;
} {
  return { index, value, ...(valueTwo ? { valueTwo } : {}), op };
}

const errnoNumbers: ReadonlyMap<string, number> = new Map(Object.entries(constants.errno));

function errnoOf(name: string): number {
  const number = /^\d+$/.test(name) ? Number(name) : errnoNumbers.get(name);
  if (number === undefined) throw new CrioError('invalid', `convert seccomp profile: unknown errno "${name}"`);
  return number;
}
