import { mkdir } from 'node:fs/promises';
import { CrioError, messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { statusOfChain } from './chain.ts';
import { discoverNetworks, type Networks } from './discovery.ts';
import type { NetworkList } from './network-list.ts';
import { PluginFiles } from './plugin-files.ts';
import { PluginVersions } from './plugin-versions.ts';
import { DirectoryWatch } from './watch.ts';

export interface NodeNetworksOptions {
  readonly networkDir: string;
  readonly pluginDirs: readonly string[];
  /** Empty: the first configuration in order of file names. */
  readonly defaultNetwork: string;
  readonly log: Logger;
}

const pollMs = 500;
const statusTimeoutMs = 5_000;
/** A STATUS answer older than this is asked for again, in the background, when somebody looks at it. */
const statusFreshMs = 5_000;

/** The networks that are configured on this node, and whether the default one can be used. Watches the folders. */
export class NodeNetworks implements Disposable {
  readonly plugins: PluginFiles;
  readonly #options: NodeNetworksOptions;
  readonly #versions: PluginVersions;
  readonly #ready = Promise.withResolvers<void>();
  #networks: Networks = { byName: new Map(), first: undefined, ignored: new Map() };
  #watch: DirectoryWatch | undefined;
  #pluginStatus: { error: string | undefined; atMs: number } = { error: undefined, atMs: -Infinity };
  #isChecking = false;
  #isClosed = false;
  #poll: NodeJS.Timeout | undefined;

  /** Reads the configuration once before it resolves. */
  static async open(options: NodeNetworksOptions): Promise<NodeNetworks> {
    const directories = [options.networkDir, ...options.pluginDirs];
    for (const directory of directories) await makeDirectory(directory, options.log);
    const networks = new NodeNetworks(options);
    networks.#watch = new DirectoryWatch(directories, () => networks.reload(), options.log);
    await networks.reload();
    networks.#schedulePoll();
    return networks;
  }

  private constructor(options: NodeNetworksOptions) {
    this.#options = options;
    this.plugins = new PluginFiles(options.pluginDirs);
    this.#versions = new PluginVersions(options.log);
    // Nobody may be waiting when the daemon ends before the network is ready.
    this.#ready.promise.catch(() => undefined);
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    clearTimeout(this.#poll);
    this.#watch?.[Symbol.dispose]();
    this.#ready.reject(new CrioError('unavailable', 'the daemon is shutting down'));
  }

  /** The network of new pods; undefined when there is none. */
  get default(): NetworkList | undefined {
    const name = this.defaultName;
    return name === undefined ? undefined : this.#networks.byName.get(name);
  }

  /** A configured name may be of a network that has not come yet. */
  get defaultName(): string | undefined {
    return this.#options.defaultNetwork === '' ? this.#networks.first : this.#options.defaultNetwork;
  }

  find(name: string): NetworkList | undefined {
    return this.#networks.byName.get(name);
  }

  all(): Iterable<NetworkList> {
    return this.#networks.byName.values();
  }

  /** Undefined when pods can be given a network, else why not. Answered from memory. */
  status(): string | undefined {
    if (this.default === undefined) {
      return `no CNI configuration file in ${this.#options.networkDir}. Has your network provider started?`;
    }
    if (performance.now() - this.#pluginStatus.atMs > statusFreshMs) void this.#checkPlugins();
    return this.#pluginStatus.error;
  }

  /** Resolves when the default network was ready once. */
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

  /** Reads the folders anew. */
  async reload(): Promise<void> {
    const { networkDir, log } = this.#options;
    const before = this.default?.name;
    this.plugins.forget();
    const versionsOf = (file: string) => this.#versions.of(file);
    const networks = await discoverNetworks({ networkDir, plugins: this.plugins, versionsOf, log });
    // Until there is a network, this runs twice a second: the same is said once.
    for (const [file, { level, text }] of networks.ignored)
      if (this.#networks.ignored.get(file)?.text !== text) log[level](text);
    this.#networks = networks;
    const now = this.default?.name;
    if (now !== before) log.info(`Updated default CNI network name to ${now ?? ''}`);
    await this.#checkPlugins();
  }

  /** Asks the plugins of the default network for their STATUS; the first success lets pods start. Never rejects. */
  async #checkPlugins(): Promise<void> {
    const list = this.default;
    if (list === undefined || this.#isChecking) return;
    this.#isChecking = true;
    let error: string | undefined;
    try {
      const deadlineMs = performance.now() + statusTimeoutMs;
      await statusOfChain(list, { plugins: this.plugins, deadlineMs, log: this.#options.log });
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
    const isReady = this.default !== undefined && this.#pluginStatus.error === undefined;
    if (isReady || this.#isClosed) return;
    this.#poll = setTimeout(() => {
      this.reload()
        .catch((error: unknown) => this.#options.log.error('reload CNI configuration', error))
        .finally(() => this.#schedulePoll());
    }, pollMs);
    this.#poll.unref();
  }
}

async function makeDirectory(directory: string, log: Logger): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o755 });
  } catch (error) {
    log.warn(`create "${directory}"`, error);
  }
}
