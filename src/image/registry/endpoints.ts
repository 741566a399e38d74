import type { Logger } from '../../base/log.ts';
import { TlsContexts } from './certificates.ts';
import { Endpoint } from './endpoint.ts';
import type { TransportLimits } from './limits.ts';
import { createLookup } from './lookup.ts';

/** Anybody may name hosts: those that were not asked for longest are forgotten. */
const maxEndpoints = 100;

/** All registry servers of this process: one `Endpoint` per host and security, shared by all pulls. */
export class Endpoints implements Disposable {
  /** The one used last is the last. */
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #lookup = createLookup();
  readonly #limits: TransportLimits;
  readonly #certificateDirs: readonly string[];
  #tls: TlsContexts;
  readonly #log: Logger;

  readonly #isInsecure: (host: string) => boolean;

  constructor(options: {
    limits: TransportLimits;
    certificateDirs: readonly string[];
    /** True for a host that the configuration declares insecure, now. */
    isInsecure?: (host: string) => boolean;
    log: Logger;
  }) {
    this.#isInsecure = options.isInsecure ?? (() => false);
    this.#limits = options.limits;
    this.#certificateDirs = options.certificateDirs;
    this.#tls = new TlsContexts(options.certificateDirs);
    this.#log = options.log;
  }

  get(host: string, insecure: boolean): Endpoint {
    const key = `${insecure ? 'insecure' : 'secure'} ${host}`;
    const endpoint = this.#endpoints.get(key) ?? this.#newEndpoint(host, insecure);
    this.#endpoints.delete(key);
    this.#endpoints.set(key, endpoint);
    for (const [oldest, unused] of this.#endpoints) {
      if (this.#endpoints.size <= maxEndpoints) break;
      this.#endpoints.delete(oldest);
      unused.retire();
    }
    return endpoint;
  }

  /** Forgets tokens, certificates and what is known about servers; what runs goes on with the old ones. */
  forget(): void {
    for (const endpoint of this.#endpoints.values()) endpoint.retire();
    this.#endpoints.clear();
    this.#tls = new TlsContexts(this.#certificateDirs);
  }

  /** Ends all connections. */
  [Symbol.dispose](): void {
    for (const endpoint of this.#endpoints.values()) endpoint.close();
    this.#endpoints.clear();
  }

  #newEndpoint(host: string, insecure: boolean): Endpoint {
    return new Endpoint({
      host,
      insecure,
      isInsecure: this.#isInsecure,
      tls: this.#tls,
      lookup: this.#lookup,
      limits: this.#limits,
      log: this.#log,
    });
  }
}
