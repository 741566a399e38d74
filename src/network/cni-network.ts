import { mkdir } from 'node:fs/promises';
import { CrioError, messageOf, wrap } from '../base/errors.ts';
import { goJson } from '../base/go-json.ts';
import { KeyedLock } from '../base/keyed-lock.ts';
import type { Logger } from '../base/log.ts';
import { AttachmentCache, type CachedAttachment } from './cni/cache.ts';
import { addChain, collectChain, deleteChain, statusOfChain, type Attachment, type ChainOptions } from './cni/chain.ts';
import { discoverNetworks, type Networks } from './cni/discovery.ts';
import type { NetworkList } from './cni/network-list.ts';
import { PluginFiles } from './cni/plugin-files.ts';
import { PluginVersions } from './cni/plugin-versions.ts';
import { addressesOf, toCurrent, type CniResult } from './cni/result.ts';
import { DirectoryWatch } from './cni/watch.ts';
import { ExclusiveGate } from './exclusive-gate.ts';
import { createHostPorts, type HostPorts } from './host-ports/host-ports.ts';
import { planHostPorts } from './host-ports/mapping.ts';
import type { Network, PodNetwork, SetUpOptions } from './network.ts';
import { isNamespaceFile } from './netns-file.ts';
import { attachmentOf, fullName, interfaceName, type NetworkPod } from './pod-attachment.ts';

export interface CniNetworkOptions {
  readonly networkDir: string;
  readonly pluginDirs: readonly string[];
  /** Empty: the first configuration in order of file names. */
  readonly defaultNetwork: string;
  /** False: ports of the node are somebody else's work. */
  readonly hostPorts: boolean;
  readonly cacheDir: string;
  readonly log: Logger;
}

const setUpMs = 5 * 60_000;
const tearDownMs = 60_000;
const gcMs = 30_000;
const pollMs = 500;
const statusTimeoutMs = 5_000;
/** A STATUS answer older than this is asked for again, in the background, when somebody looks at it. */
const statusFreshMs = 5_000;
/** Waits before DEL is tried again for a pod that Kubernetes does not speak of any more. */
const retryDelaysMs = [10_000, 60_000, 300_000];

export class CniNetwork implements Network {
  readonly #options: CniNetworkOptions;
  readonly #log: Logger;
  readonly #cache: AttachmentCache;
  readonly #versions: PluginVersions;
  readonly #plugins: PluginFiles;
  readonly #hostPorts: HostPorts;
  readonly #locks = new KeyedLock();
  readonly #gate = new ExclusiveGate();
  readonly #ready = Promise.withResolvers<void>();
  readonly #closing = new AbortController();
  /** Pods of this process and those restored: their attachments and rules are nobody's garbage. */
  readonly #livePods = new Set<string>();
  #networks: Networks = { byName: new Map(), first: undefined };
  #watch: DirectoryWatch | undefined;
  #pluginStatus: { error: string | undefined; atMs: number } = { error: undefined, atMs: -Infinity };
  #isChecking = false;
  #poll: NodeJS.Timeout | undefined;

  static async start(options: CniNetworkOptions): Promise<CniNetwork> {
    for (const directory of [options.networkDir, ...options.pluginDirs]) await makeDirectory(directory, options.log);
    const network = new CniNetwork(options);
    network.#watch = new DirectoryWatch([options.networkDir, ...options.pluginDirs], () => network.#reload(), options.log);
    await network.#reload();
    network.#schedulePoll();
    return network;
  }

  private constructor(options: CniNetworkOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#cache = new AttachmentCache(options.cacheDir);
    this.#versions = new PluginVersions(options.log);
    this.#plugins = new PluginFiles(options.pluginDirs);
    this.#hostPorts = createHostPorts({ livePods: () => this.#livePods, log: options.log });
    // Nobody may be waiting when the daemon ends before the network is ready.
    this.#ready.promise.catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#poll);
    this.#watch?.[Symbol.dispose]();
    this.#closing.abort();
    this.#ready.reject(new CrioError('unavailable', 'the daemon is shutting down'));
  }

  status(): string | undefined {
    const list = this.#defaultNetwork();
    if (list === undefined) return `no CNI configuration file in ${this.#options.networkDir}. Has your network provider started?`;
    if (performance.now() - this.#pluginStatus.atMs > statusFreshMs) void this.#checkPlugins();
    return this.#pluginStatus.error;
  }

  async waitReady(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([this.#ready.promise, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
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

  async recordedNetns(podId: string): Promise<string | undefined> {
    const [entry] = await this.#cache.ofContainer(podId);
    return entry?.attachment.netns === '' ? undefined : entry?.attachment.netns;
  }

  async gc(validPodIds: readonly string[], signal: AbortSignal): Promise<void> {
    for (const id of validPodIds) this.#livePods.add(id);
    await this.waitReady(signal);
    await this.#gate.alone(async () => {
      await this.#collectAttachments();
      await this.#collectNetworks();
      if (this.#options.hostPorts) await this.#hostPorts.prune(this.#livePods);
    });
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
    if (this.#defaultNetwork() === undefined) await this.#reload();
    const list = this.#defaultNetwork();
    if (list !== undefined) return list;
    const name = this.#defaultName();
    if (name === undefined) throw new CrioError('unavailable', `error adding pod ${fullName(pod)}: ${this.status()}`);
    throw new CrioError('unavailable', `error adding pod ${fullName(pod)}: failed to find requested network name ${name}`);
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
    if (cached.length > 0) {
      return cached.flatMap((entry) => {
        const list = entry.list ?? this.#networks.byName.get(entry.network);
        // Interface, network, arguments and capabilities are the recorded ones, the namespace is the caller's.
        return list === undefined ? [] : [{ ...entry, list, attachment: { ...entry.attachment, netns: pod.netnsPath === '' ? entry.attachment.netns : pod.netnsPath } }];
      });
    }
    const list = this.#defaultNetwork();
    return list === undefined ? [] : [{ list, attachment: attachmentOf(pod, ''), result: undefined, file: undefined }];
  }

  async #deleteAttachment(target: Target, options: ChainOptions): Promise<void> {
    await deleteChain(target.list, target.attachment, target.result, options);
    if (target.file !== undefined) await this.#cache.remove(target.file);
  }

  /** A pod that is removed is not spoken of again: DEL is tried a few times more from the record alone, then at start. */
  #retryLater(podId: string, attempt: number): void {
    const delay = retryDelaysMs[attempt];
    if (delay === undefined || this.#closing.signal.aborted) return;
    const timer = setTimeout(() => {
      this.#retry(podId).catch((error: unknown) => {
        this.#log.warn(`remove network of pod ${podId} again`, error);
        this.#retryLater(podId, attempt + 1);
      });
    }, delay);
    timer.unref();
    this.#closing.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  }

  #retry(podId: string): Promise<void> {
    return this.#gate.shared(async () => {
      if (this.#livePods.has(podId)) return;
      for (const entry of await this.#cache.ofContainer(podId)) await this.#deleteCached(entry);
      this.#log.info(`Successfully cleaned up network for pod ${podId}`);
    });
  }

  async #deleteCached(entry: CachedAttachment): Promise<void> {
    const list = entry.list ?? this.#networks.byName.get(entry.network);
    if (list === undefined) throw new CrioError('not-found', `network "${entry.network}" has no configuration any more`);
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
      await this.#hostPorts.remove({ id: pod.id, name: pod.metadata.name, ports: planHostPorts(pod.portMappings, ips) });
    } catch (error) {
      this.#log.error(`remove host ports of pod ${pod.id}`, error);
    }
  }

  async #collectAttachments(): Promise<void> {
    await this.#cache.removeTemporaries();
    for (const entry of await this.#cache.all()) {
      if (this.#livePods.has(entry.attachment.containerId)) continue;
      const { containerId, ifName } = entry.attachment;
      try {
        await this.#deleteCached(entry);
        this.#log.info(`Successfully cleaned up network for pod ${containerId}`);
      } catch (error) {
        this.#log.warn(`failed to delete stale attachment ${containerId} ${ifName}`, error);
      }
    }
  }

  async #collectNetworks(): Promise<void> {
    const valid = [...this.#livePods].map((containerID) => ({ containerID, ifname: interfaceName }));
    for (const list of this.#networks.byName.values()) {
      try {
        await collectChain(list, valid, this.#chainOptions(gcMs));
      } catch (error) {
        this.#log.warn(`garbage collection of CNI network "${list.name}"`, error);
      }
    }
  }

  #chainOptions(limitMs: number): ChainOptions {
    return { plugins: this.#plugins, deadlineMs: performance.now() + limitMs, log: this.#log };
  }

  #defaultName(): string | undefined {
    return this.#options.defaultNetwork === '' ? this.#networks.first : this.#options.defaultNetwork;
  }

  #defaultNetwork(): NetworkList | undefined {
    const name = this.#defaultName();
    return name === undefined ? undefined : this.#networks.byName.get(name);
  }

  async #reload(): Promise<void> {
    const { networkDir } = this.#options;
    this.#plugins.forget();
    const before = this.#defaultNetwork();
    const versionsOf = (file: string) => this.#versions.of(file);
    this.#networks = await discoverNetworks({ networkDir, plugins: this.#plugins, versionsOf, log: this.#log });
    const now = this.#defaultNetwork();
    if (now?.name !== before?.name) this.#log.info(() => `Updated default CNI network name to ${now?.name ?? ''}`);
    await this.#checkPlugins();
  }

  /** Asks the plugins of the default network for their STATUS; the first success lets pods start. */
  async #checkPlugins(): Promise<void> {
    const list = this.#defaultNetwork();
    if (list === undefined || this.#isChecking) return;
    this.#isChecking = true;
    let error: string | undefined;
    try {
      await statusOfChain(list, this.#chainOptions(statusTimeoutMs));
      this.#ready.resolve();
    } catch (cause) {
      error = messageOf(cause);
    } finally {
      this.#isChecking = false;
      this.#pluginStatus = { error, atMs: performance.now() };
    }
  }

  /** Until the network was ready once; a watcher may miss an event, so the folder is read again too. */
  #schedulePoll(): void {
    const isReady = this.#defaultNetwork() !== undefined && this.#pluginStatus.error === undefined;
    if (isReady || this.#closing.signal.aborted) return;
    this.#poll = setTimeout(() => {
      this.#reload()
        .catch((error: unknown) => this.#log.error('reload CNI configuration', error))
        .finally(() => this.#schedulePoll());
    }, pollMs);
    this.#poll.unref();
  }
}

interface Target {
  readonly list: NetworkList;
  readonly attachment: Attachment;
  readonly result: CniResult | undefined;
  readonly file: string | undefined;
}

async function makeDirectory(directory: string, log: Logger): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o755 });
  } catch (error) {
    log.warn(`create "${directory}"`, error);
  }
}
