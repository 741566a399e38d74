import { CrioError } from '../base/errors.ts';
import {
  MountPropagation,
  type ContainerConfig,
  type ContainerMount,
  type ContainerSecurityContext,
} from '../container/config.ts';
import { knownValue, required, toMap } from './checked.ts';
import type * as cri from './gen/api_pb.ts';
import {
  toGroups,
  toGroupsPolicy,
  toIdMapping,
  toNamespaceOptions,
  toOptionalId,
  toResources,
  toSecurityProfile,
  toSelinux,
} from './pod-config.ts';
import { toSignalNumber } from './signals.ts';

const propagations = Object.values(MountPropagation);

/** A checked copy of the CRI message, with the error texts of CRI-O for what is missing. */
export function toContainerConfig(config: cri.ContainerConfig | undefined): ContainerConfig {
  const { metadata, image, linux, ...rest } = required(config, 'config is nil');
  const { name, attempt } = required(metadata, 'container config metadata is nil');
  if (name === '') throw new CrioError('invalid', 'name is empty');
  const spec = required(image, 'config image is nil');
  const reference = spec.image === '' ? spec.imageRef : spec.image;
  if (reference === '') throw new CrioError('invalid', 'no image specified');
  return {
    metadata: { name, attempt },
    image: reference,
    userSpecifiedImage: spec.userSpecifiedImage,
    imageAnnotations: toMap(spec.annotations),
    command: rest.command,
    args: rest.args,
    workingDir: rest.workingDir,
    envs: rest.envs.map(({ key, value }) => ({ key, value: toText(value) })),
    mounts: rest.mounts.map(toMount),
    devices: rest.devices.map(({ containerPath, hostPath, permissions }) => ({ containerPath, hostPath, permissions })),
    labels: toMap(rest.labels),
    annotations: toMap(rest.annotations),
    logPath: rest.logPath,
    stdin: rest.stdin,
    stdinOnce: rest.stdinOnce,
    tty: rest.tty,
    resources: linux?.resources === undefined ? undefined : toResources(linux.resources),
    securityContext: linux?.securityContext === undefined ? undefined : toSecurityContext(linux.securityContext),
    cdiDevices: rest.CDIDevices.map((device) => device.name),
    stopSignal: toSignalNumber(rest.stopSignal),
  };
}

/** Environment values are bytes in the protocol; config.json holds text, so other bytes become U+FFFD, as with CRI-O. */
function toText(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function toMount(mount: cri.Mount): ContainerMount {
  return {
    containerPath: mount.containerPath,
    hostPath: mount.hostPath,
    readonly: mount.readonly,
    selinuxRelabel: mount.selinuxRelabel,
    propagation: knownValue(mount.propagation, propagations, 'mount propagation'),
    uidMappings: mount.uidMappings.map(toIdMapping),
    gidMappings: mount.gidMappings.map(toIdMapping),
    recursiveReadOnly: mount.recursiveReadOnly,
    image: mount.image === undefined || mount.image.image === '' ? undefined : mount.image.image,
    ...(mount.image === undefined ? {} : { userSpecifiedImage: mount.image.userSpecifiedImage }),
    imageSubPath: mount.imageSubPath,
    mountOptions: mount.mountOptions,
  };
}

function toSecurityContext(context: cri.LinuxContainerSecurityContext): ContainerSecurityContext {
  return {
    addCapabilities: context.capabilities?.addCapabilities ?? [],
    dropCapabilities: context.capabilities?.dropCapabilities ?? [],
    privileged: context.privileged,
    namespaceOptions: context.namespaceOptions === undefined ? undefined : toNamespaceOptions(context.namespaceOptions),
    selinux: toSelinux(context.selinuxOptions),
    runAsUser: toOptionalId(context.runAsUser, 'run_as_user'),
    runAsGroup: toOptionalId(context.runAsGroup, 'run_as_group'),
    runAsUsername: context.runAsUsername,
    readonlyRootfs: context.readonlyRootfs,
    supplementalGroups: toGroups(context.supplementalGroups),
    supplementalGroupsPolicy: toGroupsPolicy(context.supplementalGroupsPolicy),
    noNewPrivs: context.noNewPrivs,
    maskedPaths: context.maskedPaths,
    readonlyPaths: context.readonlyPaths,
    seccomp: toSecurityProfile(context.seccomp),
    apparmor: toSecurityProfile(context.apparmor),
    apparmorProfile: context.apparmorProfile,
  };
}
