import { NamespaceMode } from '../../pod/config.ts';
import { podAnnotations } from './annotations.ts';
import { baseSpec } from './base-spec.ts';
import { chooseCapabilities } from './capabilities.ts';
import { cgroupsPath } from './cgroups-path.ts';
import { bindHostTrees } from './container-mounts.ts';
import { convertProfile } from './convert-seccomp.ts';
import { bind, type Draft, putMount } from './draft.ts';
import type { PodSpecInput } from './input.ts';
import { setIdMappings, setNamespaces } from './namespaces.ts';
import type { Spec } from './oci.ts';
import { clampOomScoreAdj } from './resources.ts';
import { parseUlimit } from './rlimits.ts';

/** The infra container should be the last process of the pod that the kernel kills. */
const infraOomScoreAdj = -998;
const infraCpuShares = 2;

type Step = (draft: Draft, input: PodSpecInput) => void;

const steps: readonly Step[] = [
  setProcess,
  setRoot,
  setMounts,
  setAnnotations,
  setResources,
  setPodNamespaces,
  setSeccomp,
];

/** The spec of a pod's infra container, written also when that container is dropped; pure. Throws CrioError `invalid`. */
export function buildPodSpec(input: PodSpecInput): Spec {
  const draft = baseSpec(input.ociVersion);
  for (const step of steps) step(draft, input);
  return draft;
}

function setProcess(draft: Draft, { args, settings, host, processLabel }: PodSpecInput): void {
  draft.process.args = [...args];
  draft.process.capabilities = chooseCapabilities({
    privileged: false,
    add: [],
    drop: [],
    defaults: settings.defaultCapabilities,
    addInheritable: settings.addInheritableCapabilities,
    kernel: host.kernelCapabilities,
    allowed: host.boundingCapabilities,
  });
  if (settings.defaultUlimits.length > 0) draft.process.rlimits = settings.defaultUlimits.map(parseUlimit);
  draft.process.oomScoreAdj = clampOomScoreAdj(infraOomScoreAdj, host);
  if (processLabel !== '') draft.process.selinuxLabel = processLabel;
}

function setRoot(draft: Draft, { rootfs, hostname }: PodSpecInput): void {
  draft.root = { path: rootfs, readonly: true };
  if (hostname !== '') draft.hostname = hostname;
}

function setMounts(draft: Draft, input: PodSpecInput): void {
  const { network, pid, ipc } = input.namespaceOptions;
  if (input.namespacePaths.has('user')) {
    bindHostTrees(draft, {
      network: network === NamespaceMode.node,
      pid: pid === NamespaceMode.node,
      ipc: ipc === NamespaceMode.node,
    });
  }
  if (input.resolvPath !== '') putMount(draft, readOnlyFile(input.resolvPath, '/etc/resolv.conf'));
  putMount(draft, bind(input.shmPath, '/dev/shm', 'rw', 'bind'));
  if (input.hostnamePath !== '') putMount(draft, readOnlyFile(input.hostnamePath, '/etc/hostname'));
  if (input.mountLabel !== '') draft.linux.mountLabel = input.mountLabel;
}

function readOnlyFile(source: string, destination: string) {
  return bind(source, destination, 'ro', 'bind', 'nodev', 'nosuid', 'noexec');
}

function setAnnotations(draft: Draft, input: PodSpecInput): void {
  draft.annotations = podAnnotations(input);
}

function setResources(draft: Draft, { settings, host, cgroupParent, id, sysctls }: PodSpecInput): void {
  if (sysctls.size > 0) draft.linux.sysctl = Object.fromEntries(sysctls);
  if (host.controllers.has('cpu')) draft.linux.resources.cpu = { shares: infraCpuShares };
  if (settings.infraCtrCpuset !== '' && host.controllers.has('cpuset')) {
    draft.linux.resources.cpu = { ...draft.linux.resources.cpu, cpus: settings.infraCtrCpuset };
  }
  if (cgroupParent !== '')
    draft.linux.cgroupsPath = cgroupsPath({ manager: settings.cgroupManager, parent: cgroupParent, id });
}

function setPodNamespaces(draft: Draft, input: PodSpecInput): void {
  setNamespaces(draft, {
    pid: input.namespaceOptions.pid,
    pidPath: undefined,
    paths: input.namespacePaths,
    // the host's network namespace is pinned like any other, and joined by path
    hostNetwork: false,
    privateCgroup: false,
  });
  setIdMappings(draft, input.uidMap, input.gidMap);
}

function setSeccomp(draft: Draft, { seccomp, host }: PodSpecInput): void {
  if (seccomp.profile === undefined || !host.seccomp) return;
  const capabilities = draft.process.capabilities?.bounding ?? [];
  const converted = convertProfile(seccomp.profile, { architecture: host.architecture, capabilities });
  if (converted !== undefined) draft.linux.seccomp = converted;
}
