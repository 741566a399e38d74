import { CrioError } from '../../base/errors.ts';
import type { ContainerSecurityContext } from '../../container/config.ts';
import { NamespaceMode } from '../../pod/config.ts';
import { controlAnnotation } from './annotation-filter.ts';
import { containerAnnotations } from './annotations.ts';
import { baseEnvironment, baseSpec } from './base-spec.ts';
import { chooseCapabilities } from './capabilities.ts';
import { cgroupsPath } from './cgroups-path.ts';
import { chooseArguments, chooseWorkingDirectory, isSystemd } from './command.ts';
import {
  addPodFiles,
  addReadOnlyScratch,
  addSortedBinds,
  addSystemdMounts,
  addSystemMounts,
  dropReplacedTemplates,
  makeWritable,
} from './container-mounts.ts';
import { convertProfile } from './convert-seccomp.ts';
import { type Draft, putMount } from './draft.ts';
import { mergeEnvironment } from './environment.ts';
import type { ContainerSpecInput } from './input.ts';
import { chooseMaskedPaths } from './masked-paths.ts';
import { setIdMappings, setNamespaces } from './namespaces.ts';
import type { Spec } from './oci.ts';
import { chooseResources, clampOomScoreAdj, parseUnified, setPidsLimit } from './resources.ts';
import { parseUlimit } from './rlimits.ts';

type Step = (draft: Draft, input: ContainerSpecInput) => void;

/** In CRI-O's order (cri-behaviour 5, "order of changes"): later steps see what earlier ones decided. */
const steps: readonly Step[] = [
  setLimitsAndRoot,
  setMountsOfRequest,
  setDevices,
  setTerminal,
  setResources,
  setSecurity,
  setContainerNamespaces,
  setCommand,
  setPodMounts,
  setEnvironment,
  setSeccomp,
  setAnnotations,
  setUser,
  setLateMounts,
  setFinalParts,
];

/** The spec of a container; pure. Throws CrioError `invalid` or `failed-precondition` for what cannot be met. */
export function buildContainerSpec(input: ContainerSpecInput): Spec {
  const draft = baseSpec(input.ociVersion);
  for (const step of steps) step(draft, input);
  return draft;
}

function setLimitsAndRoot(draft: Draft, input: ContainerSpecInput): void {
  const { settings, config } = input;
  if (settings.defaultUlimits.length > 0) draft.process.rlimits = settings.defaultUlimits.map(parseUlimit);
  draft.root.path = input.rootfs;
  const readOnlyByConfig = settings.readOnly && !isPrivileged(input);
  if (config.securityContext?.readonlyRootfs === true || readOnlyByConfig) draft.root.readonly = true;
  dropReplacedTemplates(draft, requestedPaths(input));
  if (readOnlyByConfig) addReadOnlyScratch(draft, requestedPaths(input));
}

function setMountsOfRequest(draft: Draft, input: ContainerSpecInput): void {
  for (const mount of input.mounts.images) putMount(draft, mount);
  addSystemMounts(draft, input, requestedPaths(input));
  if (input.mounts.rootfsPropagation !== undefined) draft.linux.rootfsPropagation = input.mounts.rootfsPropagation;
}

function setDevices(draft: Draft, { devices }: ContainerSpecInput): void {
  if (devices.nodes.length > 0) draft.linux.devices = [...devices.nodes];
  draft.linux.resources.devices.push(...devices.rules);
}

function setTerminal(draft: Draft, { config }: ContainerSpecInput): void {
  if (config.tty) draft.process.terminal = true;
}

function setResources(draft: Draft, input: ContainerSpecInput): void {
  const { settings, host, id } = input;
  const requested = input.config.resources;
  if (requested !== undefined) {
    Object.assign(
      draft.linux.resources,
      chooseResources({ id, resources: requested, minMemory: settings.containerMinMemory, host }),
    );
    draft.process.oomScoreAdj = clampOomScoreAdj(requested.oomScoreAdj, host);
  }
  const unified = host.cgroupV2 ? annotation(input, 'unified-cgroup.crio.io') : undefined;
  if (unified !== undefined)
    draft.linux.resources.unified = { ...draft.linux.resources.unified, ...Object.fromEntries(parseUnified(unified)) };
  setPidsLimit(draft, settings.pidsLimit, host);
  draft.linux.cgroupsPath = cgroupsPath({ manager: settings.cgroupManager, parent: input.pod.cgroupParent, id });
}

function setSecurity(draft: Draft, input: ContainerSpecInput): void {
  const context = input.config.securityContext;
  draft.process.capabilities = chooseCapabilities({
    privileged: isPrivileged(input),
    add: context?.addCapabilities ?? [],
    drop: context?.dropCapabilities ?? [],
    defaults: input.settings.defaultCapabilities,
    addInheritable: input.settings.addInheritableCapabilities,
    kernel: input.host.kernelCapabilities,
    allowed: input.host.boundingCapabilities,
  });
  if (context?.noNewPrivs === true) draft.process.noNewPrivileges = true;
  if (input.apparmorProfile !== undefined && input.host.apparmor) draft.process.apparmorProfile = input.apparmorProfile;
  setLabels(draft, input);
  if (context !== undefined && !context.privileged) setHiddenPaths(draft, context, input.host.thermalThrottlePaths);
}

function setLabels(draft: Draft, input: ContainerSpecInput): void {
  const unconfined = isPrivileged(input) || (input.pod.hostNetwork && input.settings.hostnetworkDisableSelinux);
  if (input.processLabel !== '' && !unconfined) draft.process.selinuxLabel = input.processLabel;
  if (input.mountLabel !== '') draft.linux.mountLabel = input.mountLabel;
}

function setHiddenPaths(
  draft: Draft,
  context: ContainerSecurityContext,
  thermalThrottlePaths: readonly string[],
): void {
  const masked = chooseMaskedPaths(context.maskedPaths, thermalThrottlePaths);
  if (masked.length > 0) draft.linux.maskedPaths = masked;
  if (context.readonlyPaths.length > 0) draft.linux.readonlyPaths = [...context.readonlyPaths];
}

function setContainerNamespaces(draft: Draft, input: ContainerSpecInput): void {
  const options = input.config.securityContext?.namespaceOptions;
  setNamespaces(draft, {
    pid: options?.pid ?? NamespaceMode.pod,
    pidPath: input.pidNamespacePath,
    paths: input.pod.namespacePaths,
    hostNetwork: input.pod.hostNetwork,
    privateCgroup: input.host.cgroupV2 && !isPrivileged(input),
  });
  setIdMappings(draft, input.pod.uidMap, input.pod.gidMap);
}

function setCommand(draft: Draft, input: ContainerSpecInput): void {
  draft.process.args = argumentsOf(input);
  rejectNul(draft.process.args, 'argument');
  draft.process.cwd = chooseWorkingDirectory(input.config.workingDir, input.image.config.workingDir);
}

/** What decides on command and environment; known before anything is mounted. */
export type ProcessInput = Pick<ContainerSpecInput, 'config' | 'settings' | 'extraEnv'> & {
  readonly pod: Pick<ContainerSpecInput['pod'], 'hostname'>;
  readonly image: Pick<ContainerSpecInput['image'], 'config'>;
};

export function argumentsOf({ config, image }: ProcessInput): string[] {
  return chooseArguments({ command: config.command, args: config.args, image: image.config });
}

export function environmentOf(input: ProcessInput): string[] {
  const { pod, config } = input;
  return mergeEnvironment({
    base: baseEnvironment,
    terminal: config.tty,
    systemd: isSystemd(argumentsOf(input)),
    hostname: pod.hostname,
    defaults: input.settings.defaultEnv,
    request: config.envs,
    image: input.image.config.env,
    extra: input.extraEnv,
  });
}

function setPodMounts(draft: Draft, input: ContainerSpecInput): void {
  const requested = requestedPaths(input);
  addPodFiles(draft, input, requested);
  if (isPrivileged(input)) makeWritable(draft);
  if (isSystemd(draft.process.args)) addSystemdMounts(draft, input, requested);
}

function setEnvironment(draft: Draft, input: ContainerSpecInput): void {
  if (input.pod.hostname !== '') draft.hostname = input.pod.hostname;
  draft.process.env = environmentOf(input);
  rejectNul(draft.process.env, 'environment variable');
}

function setSeccomp(draft: Draft, { seccomp, host }: ContainerSpecInput): void {
  if (seccomp.profile === undefined || !host.seccomp) return;
  const capabilities = draft.process.capabilities?.bounding ?? [];
  const converted = convertProfile(seccomp.profile, { architecture: host.architecture, capabilities });
  if (converted !== undefined) draft.linux.seccomp = converted;
}

function setAnnotations(draft: Draft, input: ContainerSpecInput): void {
  draft.annotations = containerAnnotations(input);
}

function setUser(draft: Draft, input: ContainerSpecInput): void {
  const { uid, gid, additionalGids } = input.user;
  const umask = annotation(input, 'umask.crio.io');
  if (umask !== undefined && !/^[0-7]{1,4}$/.test(umask))
    throw new CrioError('invalid', `invalid umask string ${umask}`);
  draft.process.user = {
    uid,
    gid,
    ...(umask === undefined ? {} : { umask: Number.parseInt(umask, 8) }),
    additionalGids: [...additionalGids],
  };
}

function setLateMounts(draft: Draft, { mounts, prepared }: ContainerSpecInput): void {
  for (const mount of prepared.users) putMount(draft, mount);
  addSortedBinds(draft, [...mounts.binds, ...prepared.imageVolumes, ...prepared.secrets]);
  for (const mount of prepared.localtime) putMount(draft, mount);
}

function setFinalParts(draft: Draft, { hooks }: ContainerSpecInput): void {
  if (hooks !== undefined && Object.keys(hooks).length > 0) draft.hooks = hooks;
}

/** Paths the request mounts something on; what the image or the daemon mounts there gives way. */
function requestedPaths(input: ContainerSpecInput): ReadonlySet<string> {
  return new Set([...input.mounts.binds, ...input.mounts.images].map(({ destination }) => destination));
}

function isPrivileged(input: ContainerSpecInput): boolean {
  return input.config.securityContext?.privileged === true;
}

/** A control annotation of the container, else of its pod; the form for this container wins. */
function annotation(input: ContainerSpecInput, name: string): string | undefined {
  const all = new Map([...input.pod.annotations, ...input.annotations]);
  return controlAnnotation(all, name, input.config.metadata.name);
}

/** execve(2) ends every string at the first NUL: what follows would silently be lost. */
function rejectNul(strings: readonly string[], what: string): void {
  const bad = strings.find((text) => text.includes('\0'));
  if (bad !== undefined)
    throw new CrioError('invalid', `${what} "${bad.slice(0, bad.indexOf('\0'))}" contains a NUL byte`);
}
