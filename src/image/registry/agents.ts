import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { env } from 'node:process';
import type { TlsContexts } from './certificates.ts';
import { proxyFor } from './proxy.ts';

export interface AgentsOptions {
  /** The endpoint's host as references have it, which its folder in certs.d is named after. */
  readonly host: string;
  /** True for a URL of the endpoint itself, false for one of a token server or a storage that it leads to. */
  readonly isOwn: (url: URL) => boolean;
  /** Whether certificates of servers are verified. */
  readonly verify: boolean;
  readonly tls: TlsContexts;
}

interface TlsAgent {
  /** Whose folders in certs.d it was made from. */
  readonly folders: readonly string[];
  readonly made: Promise<{ readonly agent: HttpsAgent; readonly stamp: string }>;
}

const idleSocketMs = 30_000;
const agentOptions = { keepAlive: true, maxFreeSockets: 8, timeout: idleSocketMs } as const;
/** Hosts that one registry leads to whose connections are kept: a storage may have a new name for each answer. */
const maxTlsAgents = 16;

/** The connections of one endpoint and of the servers it leads to: one pool per host. */
export class Agents {
  readonly #options: AgentsOptions;
  /** Direct, and through a proxy. */
  readonly #plain = new Map<string, HttpAgent>();
  /** By host; the one used last is the last. */
  readonly #tls = new Map<string, TlsAgent>();

  constructor(options: AgentsOptions) {
    this.#options = options;
  }

  async for(url: URL): Promise<HttpAgent> {
    return url.protocol === 'https:' ? this.#tlsFor(url) : this.#plainFor(url);
  }

  /** Looks whether certificates have changed on disk; what asks from now on uses the new ones. */
  async refresh(): Promise<void> {
    const entries = [...this.#tls].map(async ([host, entry]) => {
      const made = await entry.made.catch(() => undefined);
      if (made === undefined || (await this.#options.tls.stamp(entry.folders)) === made.stamp) return;
      if (this.#tls.get(host) === entry) this.#drop(host, entry);
    });
    await Promise.all(entries);
  }

  /** Closes what is idle, and the rest when it is done. */
  retire(): void {
    for (const agent of this.#plain.values()) retireAgent(agent);
    for (const [host, entry] of this.#tls) this.#drop(host, entry);
    this.#plain.clear();
  }

  /** Ends all connections. */
  close(): void {
    for (const agent of this.#plain.values()) agent.destroy();
    for (const { made } of this.#tls.values()) made.then(({ agent }) => agent.destroy()).catch(() => {});
  }

  #plainFor(url: URL): HttpAgent {
    const proxyEnv = proxyFor(url, env);
    const key = JSON.stringify(proxyEnv ?? null);
    const known = this.#plain.get(key);
    if (known !== undefined) return known;
    const agent = new HttpAgent({ ...agentOptions, ...(proxyEnv === undefined ? {} : { proxyEnv: { ...proxyEnv } }) });
    this.#plain.set(key, agent);
    return agent;
  }

  async #tlsFor(url: URL): Promise<HttpsAgent> {
    const { host } = url;
    const entry = this.#tls.get(host) ?? this.#newTls(url);
    this.#tls.delete(host);
    this.#tls.set(host, entry);
    for (const [oldest, unused] of this.#tls) if (this.#tls.size > maxTlsAgents) this.#drop(oldest, unused);
    entry.made.catch(() => {
      // Certificates may be put right meanwhile: the next request reads them again.
      if (this.#tls.get(host) === entry) this.#tls.delete(host);
    });
    return (await entry.made).agent;
  }

  /** The registry's own authorities count for all servers it leads to, as with the other container tools; its key does not. */
  #newTls(url: URL): TlsAgent {
    const { host, isOwn, tls, verify } = this.#options;
    const folders = isOwn(url) ? [host] : [url.host, host];
    const proxyEnv = proxyFor(url, env);
    const made = tls.open(folders, { verify }).then(({ secureContext, stamp }) => {
      const options = { ...agentOptions, secureContext, rejectUnauthorized: verify };
      const agent = new HttpsAgent({ ...options, ...(proxyEnv === undefined ? {} : { proxyEnv: { ...proxyEnv } }) });
      return { agent, stamp };
    });
    return { folders, made };
  }

  #drop(host: string, { made }: TlsAgent): void {
    this.#tls.delete(host);
    made.then(({ agent }) => retireAgent(agent)).catch(() => {});
  }
}

function retireAgent(agent: HttpAgent): void {
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
}
