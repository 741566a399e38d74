import { readFileSync } from 'node:fs';
import { decodeSpec } from '../runtime/spec/spec-json.ts';
import { hasCode } from '../base/errors.ts';
import type { ProcessRef } from '../runtime/runtime.ts';
import type { PodPlan } from './plan.ts';
import type { Pod } from './pod.ts';

/** Where a pod's files lie. */
export interface PodPlaces {
  readonly rootfs: string;
  readonly directory: string;
  readonly runDirectory: string;
  readonly shmPath: string;
  readonly resolvPath: string;
  readonly hostnamePath: string;
  readonly containerEnvPath: string;
}

/** The pod in memory after it was made. */
export function podOf(options: {
  plan: PodPlan;
  places: PodPlaces;
  infra: ProcessRef | undefined;
  infraImage: string;
  ips: readonly string[];
}): Pod {
  const { plan, places, infra, infraImage, ips } = options;
  return {
    id: plan.id,
    name: plan.name,
    metadata: plan.config.metadata,
    labels: plan.labels,
    annotations: plan.annotations,
    createdAtNs: plan.createdAtNs,
    runtimeHandler: plan.handler,
    hostname: plan.hostname,
    cgroupParent: plan.cgroupParent,
    logDirectory: plan.logDirectory,
    namespaceOptions: plan.namespaces,
    hostNetwork: plan.hostNetwork,
    privileged: plan.privileged,
    portMappings: plan.portMappings,
    sysctls: plan.sysctls,
    ...plan.userNamespace,
    namespacePaths: plan.namespacePlan.paths,
    directory: places.directory,
    runDirectory: places.runDirectory,
    shmPath: places.shmPath,
    resolvPath: places.resolvPath,
    hostnamePath: places.hostnamePath,
    containerEnvPath: places.containerEnvPath,
    mountLabel: '',
    processLabel: '',
    infraName: plan.infraName,
    infraImage,
    infra,
    infraDropped: !plan.infraKept,
    ips,
    isReady: true,
    isStopping: false,
    isNetworkStopped: plan.hostNetwork,
    get spec() {
      return readSpec(places.runDirectory);
    },
  };
}

/** Read when asked for: few ask, and 100 specs in memory are megabytes. The run directory lies in tmpfs. */
export function readSpec(runDirectory: string): unknown {
  try {
    return decodeSpec(readFileSync(`${runDirectory}/config.json`, 'utf8'));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}
