import { parseTimeNs } from '../base/clock.ts';
import { CrioError } from '../base/errors.ts';
import { isJsonObject, type JsonObject } from '../base/go-json.ts';
import { annotationKey as key } from '../runtime/spec/annotation-keys.ts';
import type { Spec } from '../runtime/spec/oci.ts';
import { MountPropagation, type ContainerMount } from './config.ts';
import type { Container, ContainerState } from './container.ts';
import { resourcesOf } from './resources.ts';
import { parseSignal } from './stop-signal.ts';

const defaultStopSignal = 15;

export interface SavedContainer {
  readonly id: string;
  readonly imageId: string;
  readonly runtimeHandler: string;
  readonly directory: string;
  readonly bundle: string;
  readonly spec: Spec;
  readonly state: ContainerState;
}

/**
 * A container as the annotations of its config.json describe it, written by this daemon or by CRI-O. Throws `invalid`
 * naming the annotation that is missing or wrong.
 */
export function containerFromSpec(saved: SavedContainer): Container {
  const { spec, state, imageId } = saved;
  const annotations = spec.annotations ?? {};
  const text = (name: string) => annotations[name] ?? '';
  if (text(key.manager) !== 'cri-o') throw invalid(key.manager);
  if (text(key.containerType) !== 'container') throw invalid(key.containerType);
  const stopSignal = parseSignal(text(key.stopSignal)) ?? 0;
  return {
    id: saved.id,
    name: required(text(key.name), key.name),
    podId: required(text(key.sandboxId), key.sandboxId),
    metadata: metadataOf(text(key.metadata)),
    labels: stringMap(text(key.labels), key.labels),
    annotations: stringMap(text(key.annotations), key.annotations),
    runtimeHandler: saved.runtimeHandler,
    requestedImage: text(key.image),
    imageName: text(key.imageName),
    imageId,
    imageRef: text(key.imageRepoDigests).split(',')[0] || imageId,
    mounts: volumesOf(text(key.volumes)),
    logPath: text(key.logPath),
    terminal: text(key.tty) === 'true',
    stdin: text(key.stdin) === 'true',
    stdinOnce: text(key.stdinOnce) === 'true',
    stopSignal: stopSignal === 0 ? defaultStopSignal : stopSignal,
    stopSignalRequested: stopSignal,
    privileged: isPrivileged(spec),
    createdAtNs: parseTimeNs(text(key.created)) ?? 0n,
    directory: saved.directory,
    bundle: saved.bundle,
    mountPoint: text(key.mountPoint),
    spec,
    resources: resourcesOf(spec),
    state,
    version: 1,
  };
}

/** No annotation says it; only a privileged container may use every device. */
function isPrivileged({ linux, process }: Spec): boolean {
  const allowsAll = linux?.resources?.devices?.some(({ allow, type, access }) => {
    return allow && (type === undefined || type === 'a') && access === 'rwm';
  });
  return allowsAll === true && linux?.seccomp === undefined && process?.apparmorProfile === undefined;
}

function metadataOf(text: string): { name: string; attempt: number } {
  const value = parse(text, key.metadata);
  const { name, attempt } = isJsonObject(value) ? { name: value['name'], attempt: value['attempt'] ?? 0 } : {};
  if (typeof name !== 'string' || typeof attempt !== 'number') throw invalid(key.metadata);
  return { name, attempt };
}

/** `null` stands for a map the request did not have. */
function stringMap(text: string, name: string): Map<string, string> {
  const value = parse(text, name);
  if (value === null) return new Map();
  if (!isJsonObject(value)) throw invalid(name);
  return new Map(
    Object.entries(value).map(([mapKey, item]) => {
      if (typeof item !== 'string') throw invalid(name);
      return [mapKey, item];
    }),
  );
}

function volumesOf(text: string): ContainerMount[] {
  const value = parse(text === '' ? '[]' : text, key.volumes);
  if (!Array.isArray(value)) throw invalid(key.volumes);
  return value.filter(isJsonObject).map(volumeOf);
}

const propagations = Object.values(MountPropagation);

function volumeOf(volume: JsonObject): ContainerMount {
  const text = (name: string) => (typeof volume[name] === 'string' ? volume[name] : '');
  const image = volume['image'];
  return {
    containerPath: text('container_path'),
    hostPath: text('host_path'),
    readonly: volume['readonly'] === true,
    selinuxRelabel: volume['selinux_relabel'] === true,
    propagation: propagations.find((value) => value === volume['propagation']) ?? MountPropagation.private,
    uidMappings: [],
    gidMappings: [],
    recursiveReadOnly: volume['recursive_read_only'] === true,
    image: isJsonObject(image) && typeof image['image'] === 'string' ? image['image'] : undefined,
    imageSubPath: '',
    mountOptions: [],
  };
}

function parse(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid(name);
  }
}

function required(text: string, name: string): string {
  if (text === '') throw invalid(name);
  return text;
}

function invalid(name: string): CrioError {
  return new CrioError('invalid', `read annotation "${name}" of config.json: missing or malformed`);
}
