import { dirname } from 'node:path';
import { parseTimeNs } from '../base/clock.ts';
import { CrioError } from '../base/errors.ts';
import { isJsonObject, type Json, type JsonObject } from '../base/go-json.ts';
import { annotationKey as key } from '../runtime/spec/annotation-keys.ts';
import type { IdMap, Spec } from '../runtime/spec/oci.ts';
import type { ContainerRecord } from '../storage/store.ts';
import { NamespaceMode, type IdMapping, type NamespaceOptions, type PodMetadata, type PortMapping } from './config.ts';
import type { PodNamespace } from './namespace-plan.ts';
import type { Pod } from './pod.ts';
import { readSpec } from './pod-of.ts';
import type { StoredPod } from './storage-metadata.ts';

interface RestoredPlaces {
  readonly directory: string;
  readonly runDirectory: string;
}

/**
 * A pod from the annotations of its config.json, the database that survives a restart. It is not ready: who restores it
 * decides that. Throws when something a pod cannot be without is missing.
 */
export function podFromSpec(options: { spec: Spec; stored: StoredPod; places: RestoredPlaces }): Pod {
  const { spec, stored, places } = options;
  const annotations = new Map(Object.entries(spec.annotations ?? {}));
  const text = (name: string) => annotations.get(name) ?? '';
  const name = required(annotations, key.name);
  required(annotations, key.namespace);
  const namespaceOptions = parseNamespaceOptions(required(annotations, key.namespaceOptions));
  const infraDropped = text(key.spoofed) === 'true';
  return {
    id: stored.id,
    name,
    metadata: parseMetadata(required(annotations, key.metadata)),
    labels: parseMap(required(annotations, key.labels)),
    annotations: parseMap(required(annotations, key.annotations)),
    createdAtNs: parseCreated(required(annotations, key.created)),
    runtimeHandler: text(key.runtimeHandler),
    hostname: text(key.hostName),
    cgroupParent: text(key.cgroupParent),
    logDirectory: dirname(text(key.logPath)),
    namespaceOptions,
    hostNetwork: text(key.hostNetwork) === 'true',
    privileged: text(key.privilegedRuntime) === 'true',
    portMappings: parsePorts(required(annotations, key.portMappings)),
    sysctls: new Map(Object.entries(spec.linux?.sysctl ?? {})),
    uidMap: (spec.linux?.uidMappings ?? []).map(toMapping),
    gidMap: (spec.linux?.gidMappings ?? []).map(toMapping),
    namespacePaths: parsePaths(spec),
    ...places,
    shmPath: text(key.shmPath),
    resolvPath: text(key.resolvPath),
    hostnamePath: text(key.hostnamePath),
    containerEnvPath: `${infraDropped ? places.runDirectory : places.directory}/.containerenv`,
    mountLabel: spec.linux?.mountLabel ?? '',
    processLabel: spec.process?.selinuxLabel ?? '',
    infraName: text(key.containerName),
    infraImage: text(key.image),
    infra: undefined,
    infraDropped,
    ips: parseIps(annotations.get(key.cniResult)),
    isReady: false,
    isStopping: false,
    isNetworkStopped: false,
    get spec() {
      return readSpec(places.runDirectory);
    },
  };
}

/** All that is left of a pod whose config.json cannot be read: enough to list it and to remove it. */
export function podFromMetadata(options: {
  stored: StoredPod;
  places: RestoredPlaces;
  record: ContainerRecord;
  namespacePaths: Pod['namespacePaths'];
}): Pod {
  const { stored, places, record, namespacePaths } = options;
  const { metadata } = stored;
  return {
    id: stored.id,
    name: stored.name,
    metadata,
    labels: new Map([
      ['io.kubernetes.pod.name', metadata.name],
      ['io.kubernetes.pod.namespace', metadata.namespace],
      ['io.kubernetes.pod.uid', metadata.uid],
      ['io.kubernetes.container.name', 'POD'],
    ]),
    annotations: new Map(),
    createdAtNs: stored.createdAtNs,
    runtimeHandler: '',
    hostname: '',
    cgroupParent: '',
    logDirectory: '',
    namespaceOptions: { network: 0, pid: 0, ipc: 0, targetId: '', userns: undefined },
    hostNetwork: false,
    privileged: stored.privileged,
    portMappings: [],
    sysctls: new Map(),
    uidMap: record.uidMap,
    gidMap: record.gidMap,
    namespacePaths,
    ...places,
    shmPath: `${places.runDirectory}/shm`,
    resolvPath: '',
    hostnamePath: '',
    containerEnvPath: '',
    mountLabel: record.mountLabel,
    processLabel: '',
    infraName: record.names[0] ?? stored.name,
    infraImage: stored.imageName,
    infra: undefined,
    // The runtime is asked to delete it in either case: unknown is success.
    infraDropped: false,
    ips: [],
    isReady: false,
    isStopping: false,
    isNetworkStopped: false,
    spec: undefined,
  };
}

function required(annotations: ReadonlyMap<string, string>, name: string): string {
  const value = annotations.get(name);
  if (value === undefined) throw new CrioError('internal', `config.json has no annotation ${name}`);
  return value;
}

function parseMetadata(text: string): PodMetadata {
  const object = parseObject(text, 'Metadata');
  const metadata = {
    name: stringOf(object['name']),
    uid: stringOf(object['uid']),
    namespace: stringOf(object['namespace']),
    attempt: numberOf(object['attempt']),
  };
  if (metadata.name === '' || metadata.uid === '' || metadata.namespace === '') {
    throw new CrioError('internal', 'annotation Metadata is not complete');
  }
  return metadata;
}

/** `null` stands for an empty map. */
function parseMap(text: string): Map<string, string> {
  if (text === 'null') return new Map();
  const entries = Object.entries(parseObject(text, 'map'));
  return new Map(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

function parseNamespaceOptions(text: string): NamespaceOptions {
  const object = parseObject(text, 'NamespaceOptions');
  const userns = object['userns_options'];
  return {
    network: modeOf(object['network']),
    pid: modeOf(object['pid']),
    ipc: modeOf(object['ipc']),
    targetId: stringOf(object['target_id']),
    userns: isJsonObject(userns)
      ? { mode: modeOf(userns['mode']), uids: parseMappings(userns['uids']), gids: parseMappings(userns['gids']) }
      : undefined,
  };
}

function parseMappings(value: Json | undefined): IdMapping[] {
  if (!Array.isArray(value)) return [];
  return value.filter(isJsonObject).map((item: JsonObject) => ({
    containerId: numberOf(item['container_id']),
    hostId: numberOf(item['host_id']),
    size: numberOf(item['length']),
  }));
}

function parsePorts(text: string): PortMapping[] {
  const value: unknown = JSON.parse(text);
  if (!Array.isArray(value)) return [];
  return value.filter(isJsonObject).map((item) => ({
    protocol: protocols.find((protocol) => protocol === item['Protocol']) ?? 'TCP',
    containerPort: numberOf(item['ContainerPort']),
    hostPort: numberOf(item['HostPort']),
    hostIp: stringOf(item['HostIP']),
  }));
}

const protocols = ['TCP', 'UDP', 'SCTP'] as const;

/** Addresses of the CNI result, without prefix length. */
function parseIps(text: string | undefined): string[] {
  if (text === undefined) return [];
  const ips = parseObject(text, 'CNIResult')['ips'];
  if (!Array.isArray(ips)) return [];
  return ips.filter(isJsonObject).flatMap((ip: JsonObject) => {
    const [address = ''] = stringOf(ip['address']).split('/');
    return address === '' ? [] : [address];
  });
}

function parsePaths(spec: Spec): Map<PodNamespace, string> {
  const paths = new Map<PodNamespace, string>();
  for (const { type, path } of spec.linux?.namespaces ?? []) {
    if (path === undefined) continue;
    if (type === 'network' || type === 'ipc' || type === 'uts' || type === 'user') paths.set(type, path);
  }
  return paths;
}

function parseCreated(text: string): bigint {
  const time = parseTimeNs(text);
  if (time === undefined) throw new CrioError('internal', `annotation Created: no time: "${text}"`);
  return time;
}

function toMapping({ containerID, hostID, size }: IdMap): IdMapping {
  return { containerId: containerID, hostId: hostID, size };
}

function modeOf(value: Json | undefined): NamespaceOptions['network'] {
  return Object.values(NamespaceMode).find((mode) => mode === value) ?? NamespaceMode.pod;
}

function parseObject(text: string, what: string): JsonObject {
  const value: unknown = JSON.parse(text);
  if (!isJsonObject(value)) throw new CrioError('internal', `annotation ${what}: not an object`);
  return value;
}

function stringOf(value: Json | undefined): string {
  return typeof value === 'string' ? value : '';
}

function numberOf(value: Json | undefined): number {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : 0;
}
