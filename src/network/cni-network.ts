import { CrioError, wrap } from '../base/errors.ts';
import { goJson } from '../base/go-json.ts';
import { KeyedLock } from '../base/keyed-lock.ts';
import type { Logger } from '../base/log.ts';
import { AttachmentCache, type CachedAttachment } from './cni/cache.ts';
import { addChain, collectChain, deleteChain, hasGc, type Attachment, type ChainOptions } from './cni/chain.ts';
import type { NetworkList } from './cni/network-list.ts';
import { NodeNetworks, type NodeNetworksOptions } from './cni/node-networks.ts';
import { addressesOf, toCurrent, type CniResult } from './cni/result.ts';
import { ExclusiveGate } from './exclusive-gate.ts';
import { createHostPorts, type HostPorts } from './host-ports/host-ports.ts';
import { planHostPorts } from './host-ports/mapping.ts';
import type { Network, PodNetwork, SetUpOptions } from './network.ts';
import { endProcesses } from '../sys/end-processes.ts';
import { isNamespaceFile } from './netns-file.ts';
import { attachmentOf, fullName, interfaceName, type NetworkPod } from './pod-attachment.ts';

export interface CniNetworkOptions extends NodeNetworksOptions {
  /** False: ports of the node are somebody else's work. */
  readonly hostPorts: boolean;
  readonly cacheDir: string;
}

const setUpMs = 5 * 60_000;
const tearDownMs = 60_000;
const gcMs = 30_000;
/** Waits before DEL is tried again for a pod that Kubernetes does not speak of any more. */
const retryDelaysMs = [10_000, 60_000, 300_000];

export class CniNetwork implements Network {
  readonly #options: CniNetworkOptions;
  readonly #log: Logger;
  readonly #networks: NodeNetworks;
  readonly #cache: AttachmentCache;
  readonly #hostPorts: HostPorts;
  readonly #locks = new KeyedLock();
  readonly #gate = new ExclusiveGate();
  readonly #retries = new Set<NodeJS.Timeout>();
  #isClosed = false;
  /** Pods of this process and those restored: their attachments and rules are nobody's garbage. */
  readonly #livePods = new Set<string>();

  static async start(options: CniNetworkOptions): Promise<CniNetwork> {
    return new CniNetwork(options, await NodeNetworks.open(options));
  }

  private constructor(options: CniNetworkOptions, networks: NodeNetworks) {
    this.#options = options;
    this.#log = options.log;
    this.#networks = networks;
    this.#cache = new AttachmentCache(options.cacheDir);
    this.#hostPorts = createHostPorts({ livePods: () => this.#livePods, log: options.log });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#retries) clearTimeout(timer);
    this.#networks[Symbol.dispose]();
  }

  status(): string | undefined {
    return this.#networks.status();
  }

  waitReady(signal: AbortSignal): Promise<void> {
    return this.#networks.waitReady(signal);
  }

  setUp(pod: NetworkPod, options: SetUpOptions = {}): Promise<PodNetwork> {
    return this.#perPod(pod, async () => {
      this.#livePods.add(pod.id);
      try {
        return await this.#attach(pod, options);
      } catch (error) {
        await this.#undo(pod);
        throw wrap(`failed to create pod network sandbox ${pod.name}(${pod.id})`, error);
      }
    });
  }

  tearDown(pod: NetworkPod): Promise<void> {
    return this.#perPod(pod, async () => {
      await this.#closeHostPorts(pod);
      try {
        await this.#detach(pod);
      } finally {
        this.#livePods.delete(pod.id);
      }
    });
  }

  async release(podId: string): Promise<void> {
    try {
      await this.#releaseRecorded(podId);
    } catch (error) {
      this.#retryLater(podId, 0);
      throw error;
    }
  }

  async recordedNetns(podId: string): Promise<string | undefined> {
    const [entry] = await this.#cache.ofContainer(podId);
    return entry?.attachment.netns === '' ? undefined : entry?.attachment.netns;
  }

  async gc(validPodIds: readonly string[], signal: AbortSignal): Promise<void> {
    for (const id of validPodIds) this.#livePods.add(id);
    await this.waitReady(signal);
    // Attachments of running set-ups are live before they are recorded, so these need no exclusion.
    await this.#collectAttachments();
    if (this.#options.hostPorts) await this.#hostPorts.prune(this.#livePods);
    const lists = [...this.#networks.all()].filter(hasGc);
    if (lists.length > 0) await this.#gate.alone(() => this.#collectNetworks(lists));
  }

  #perPod<T>(pod: NetworkPod, work: () => Promise<T>): Promise<T> {
    return this.#gate.shared(() => this.#locks.run(fullName(pod), work));
  }

  /** ADD with a record of it on disk beforehand, so that a crash in the middle leaves nothing behind for good. */
  async #attach(pod: NetworkPod, options: SetUpOptions): Promise<PodNetwork> {
    const { extraMs = 0, onStarted = () => undefined, onResult } = options;
    const list = await this.#wantedNetwork(pod);
    try {
      const attachment = attachmentOf(pod, process.env['CNI_ARGS'] ?? '');
      await this.#cache.writeIntent(list, attachment);
      const result = await addChain(list, attachment, { ...this.#chainOptions(setUpMs + extraMs), onStarted });
      const network = { ips: addressesOf(result), resultJson: goJson(toCurrent(result)) };
      onResult?.(network);
      await this.#cache.write(list, attachment, result);
      await this.#openHostPorts(pod, network.ips);
      return network;
    } catch (error) {
      throw wrap(`error adding pod ${fullName(pod)} to CNI network "${list.name}"`, error);
    }
  }

  /** An unknown network may have come a moment ago: the folder is read once more. */
  async #wantedNetwork(pod: NetworkPod): Promise<NetworkList> {
    if (this.#networks.default === undefined) await this.#networks.reload();
    const list = this.#networks.default;
    if (list !== undefined) return list;
    const { defaultName } = this.#networks;
    const cause = defaultName === undefined ? this.status() : `failed to find requested network name ${defaultName}`;
    throw new CrioError('unavailable', `error adding pod ${fullName(pod)}: ${cause}`);
  }

  async #undo(pod: NetworkPod): Promise<void> {
    await this.#closeHostPorts(pod);
    try {
      await this.#detach(pod);
    } catch (error) {
      this.#log.warn(`undo network of pod ${pod.id}`, error);
    } finally {
      this.#livePods.delete(pod.id);
    }
  }

  /** DEL of what the cache says, else of the default network. The record stays while DEL fails. */
  async #detach(pod: NetworkPod): Promise<void> {
    this.#log.info(() => `Deleting pod ${fullName(pod)} from CNI network`);
    const errors: unknown[] = [];
    for (const target of await this.#targetsOf(pod)) {
      try {
        await this.#deleteAttachment(target, this.#chainOptions(tearDownMs));
      } catch (error) {
        errors.push(wrap(`error removing pod ${fullName(pod)} from CNI network "${target.list.name}"`, error));
      }
    }
    if (errors.length === 0) {
      await this.#cache.removeContainer(pod.id);
      this.#log.info(() => `Successfully cleaned up network for pod ${pod.id}`);
      return;
    }
    this.#retryLater(pod.id, 0);
    // Plugins cannot do their work in a namespace that is gone: nothing is left that the caller could do better.
    if (!(await isNamespaceFile(pod.netnsPath))) {
      this.#log.warn(`network of pod ${pod.id}: its network namespace is gone`, errors[0]);
      return;
    }
    throw errors[0];
  }

  async #targetsOf(pod: NetworkPod): Promise<Target[]> {
    const cached = await this.#cache.ofContainer(pod.id);
    if (cached.length > 0) return cached.flatMap((entry) => this.#targetOf(pod, entry) ?? []);
    const list = this.#networks.default;
    return list === undefined ? [] : [{ list, attachment: attachmentOf(pod, ''), result: undefined, file: undefined }];
  }

  /** Interface, arguments and capabilities are the recorded ones, the namespace is the caller's. */
  #targetOf(pod: NetworkPod, entry: CachedAttachment): Target | undefined {
    const list = entry.list ?? this.#networks.find(entry.network);
    if (list === undefined) {
      this.#log.warn(`network of pod ${pod.id}: "${entry.network}" has no configuration any more, nothing to delete`);
      return undefined;
    }
    // Of a damaged record only the name is left.
    const known = entry.list === undefined ? attachmentOf(pod, '') : entry.attachment;
    const netns = pod.netnsPath === '' ? entry.attachment.netns : pod.netnsPath;
    return { ...entry, list, attachment: { ...known, ifName: entry.attachment.ifName, netns } };
  }

  async #deleteAttachment(target: Target, options: ChainOptions): Promise<void> {
    await deleteChain(target.list, target.attachment, target.result, options);
    if (target.file !== undefined) await this.#cache.remove(target.file);
  }

  /** A pod that is removed is not spoken of again: DEL is tried a few times more from the record alone, then at start. */
  #retryLater(podId: string, attempt: number): void {
    const delay = retryDelaysMs[attempt];
    if (delay === undefined || this.#isClosed) return;
    const timer = setTimeout(() => {
      this.#retries.delete(timer);
      this.#releaseRecorded(podId).catch((error: unknown) => {
        this.#log.warn(`remove network of pod ${podId} again`, error);
        this.#retryLater(podId, attempt + 1);
      });
    }, delay);
    timer.unref();
    this.#retries.add(timer);
  }

  /** What is recorded of a pod that is gone. Two at once would run DEL twice, so one waits and then finds nothing. */
  #releaseRecorded(podId: string): Promise<void> {
    return this.#locks.run(`release ${podId}`, async () => {
      if (this.#livePods.has(podId)) return;
      const entries = await this.#cache.ofContainer(podId);
      // Without a result the daemon was killed during ADD. A plugin that still is at it, or a program that it started,
      // would make an interface and take an address after they were given back.
      if (entries.some((entry) => entry.result === undefined))
        await endProcesses('environ', `CNI_CONTAINERID=${podId}`);
      for (const entry of entries) await this.#deleteCached(entry);
      if (entries.length > 0) this.#log.info(`Successfully cleaned up network for pod ${podId}`);
    });
  }

  async #deleteCached(entry: CachedAttachment): Promise<void> {
    const list = entry.list ?? this.#networks.find(entry.network);
    if (list === undefined)
      throw new CrioError('not-found', `network "${entry.network}" has no configuration any more`);
    await this.#deleteAttachment({ ...entry, list }, this.#chainOptions(tearDownMs));
  }

  async #openHostPorts(pod: NetworkPod, ips: readonly string[]): Promise<void> {
    const ports = planHostPorts(pod.portMappings, ips);
    if (!this.#options.hostPorts || ports.size === 0) return;
    await this.#hostPorts.add({ id: pod.id, name: pod.metadata.name, ports });
  }

  /** Failures are logged only: DEL must still be reached. */
  async #closeHostPorts(pod: NetworkPod): Promise<void> {
    if (!this.#options.hostPorts || !pod.portMappings.some((mapping) => mapping.hostPort > 0)) return;
    try {
      const cached = await this.#cache.ofContainer(pod.id);
      const ips = cached.flatMap((entry) => (entry.result === undefined ? [] : addressesOf(entry.result)));
      await this.#hostPorts.remove({
        id: pod.id,
        name: pod.metadata.name,
        ports: planHostPorts(pod.portMappings, ips),
      });
    } catch (error) {
      this.#log.error(`remove host ports of pod ${pod.id}`, error);
    }
  }

  async #collectAttachments(): Promise<void> {
    await this.#cache.removeTemporaries();
    const ids = new Set((await this.#cache.all()).map((entry) => entry.attachment.containerId));
    for (const id of ids.difference(this.#livePods)) {
      try {
        await this.#releaseRecorded(id);
      } catch (error) {
        this.#log.warn(`failed to delete stale attachment ${id}`, error);
      }
    }
  }

  /** Plugins delete whatever is not in the list: nothing may be added meanwhile. */
  async #collectNetworks(lists: readonly NetworkList[]): Promise<void> {
    const valid = [...this.#livePods].map((containerID) => ({ containerID, ifname: interfaceName }));
    for (const list of lists) {
      try {
        await collectChain(list, valid, this.#chainOptions(gcMs));
      } catch (error) {
        this.#log.warn(`garbage collection of CNI network "${list.name}"`, error);
      }
    }
  }

  #chainOptions(limitMs: number): ChainOptions {
    return { plugins: this.#networks.plugins, deadlineMs: performance.now() + limitMs, log: this.#log };
  }
}

interface Target {
  readonly list: NetworkList;
  readonly attachment: Attachment;
  readonly result: CniResult | undefined;
  readonly file: string | undefined;
}
