import type { CniDns } from './cni/result.ts';
import type { Config } from '../config/config.ts';
import type { Logger } from '../base/log.ts';
import { CniNetwork } from './cni-network.ts';
import type { NetworkPod } from './pod-attachment.ts';

export type { NetworkPod, CniDns };

/** Networks of pods: CNI plugins and host ports. Pods on the host network never come here. */
export interface Network extends AsyncDisposable {
  /**
   * Undefined when pods can be given a network, else the text CRI's Status shows. Answered from memory.
   */
  status(): string | undefined;
  /** Resolves when `status()` was fine once; rejects when the signal aborts. */
  waitReady(signal: AbortSignal): Promise<void>;
  /**
   * Runs CNI ADD exactly once and opens the host ports. At most 5 minutes plus `extraMs`, whatever becomes of the
   * caller. On failure everything is undone and `failed to create pod network sandbox NAME(ID): ...` is thrown.
   */
  setUp(pod: NetworkPod, options?: SetUpOptions): Promise<PodNetwork>;
  /**
   * Closes the host ports and runs CNI DEL from the recorded attachment, also when the network namespace is gone. At
   * most one minute, in its own time. A failure is thrown after everything was tried; the network counts as stopped.
   */
  tearDown(pod: NetworkPod): Promise<void>;
  /**
   * Undoes the recorded attachments of a pod that is not there any more; nothing recorded is success. A failure is
   * thrown, and what is left is tried again later and by `gc`.
   */
  release(podId: string): Promise<void>;
  /** Where the network namespace of a pod was when it was set up; undefined when there is no record of it. */
  recordedNetns(podId: string): Promise<string | undefined>;
  /**
   * Undoes attachments of pods that are neither in the list nor set up by this process, runs GC of the networks, and
   * removes host port rules of lost pods. Waits until the network is ready; errors are logged.
   */
  gc(validPodIds: readonly string[], signal: AbortSignal): Promise<void>;
}

export interface SetUpOptions {
  readonly extraMs?: number;
  /** Called when the first plugin runs as a process of its own: the time to do other work. */
  readonly onStarted?: () => void;
  /** Called with the result as soon as the plugins gave it; the promise resolves when it is recorded and the host ports are open. */
  readonly onResult?: (network: PodNetwork) => void;
}

export interface PodNetwork {
  /** In result order; the first is the pod IP. */
  readonly ips: readonly string[];
  /** The result as JSON text in version 1.1.0: the annotation CNIResult. */
  readonly resultJson: string;
}

/** Starts to watch the configuration. `cacheDir` is `/var/lib/cni` unless a test says otherwise. */
export async function createNetwork(options: {
  config: { readonly network: NetworkConfig; readonly runtime: Pick<Config['runtime'], 'disableHostportMapping'> };
  log: Logger;
  cacheDir?: string;
}): Promise<Network> {
  const { config, log, cacheDir = '/var/lib/cni' } = options;
  return CniNetwork.start({
    networkDir: config.network.networkDir,
    pluginDirs: config.network.pluginDirs,
    defaultNetwork: config.network.cniDefaultNetwork,
    hostPorts: !config.runtime.disableHostportMapping,
    cacheDir,
    log,
  });
}

type NetworkConfig = Pick<Config['network'], 'networkDir' | 'pluginDirs' | 'cniDefaultNetwork'>;
