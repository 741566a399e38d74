import type { Logger } from '../../base/log.ts';
import { TlsContexts } from './certificates.ts';
import { Endpoint } from './endpoint.ts';
import type { TransportLimits } from './limits.ts';
import { createLookup } from './lookup.ts';

/** All registry servers of this process: one `Endpoint` per host and security, shared by all pulls. */
export class Endpoints implements Disposable {
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
    const known = this.#endpoints.get(key);
    if (known !== undefined) return known;
    const endpoint = new Endpoint({
      host,
      insecure,
      isInsecure: this.#isInsecure,
      tls: this.#tls,
      lookup: this.#lookup,
      limits: this.#limits,
      log: this.#log,
    });
    this.#endpoints.set(key, endpoint);
    return endpoint;
  }

  /** Forgets tokens, certificates and what is known about servers; what runs goes on with the old ones. */
  forget(): void {
    this.#endpoints.clear();
    this.#tls = new TlsContexts(this.#certificateDirs);
  }

  /** Ends all connections. */
  [Symbol.dispose](): void {
    for (const endpoint of this.#endpoints.values()) endpoint.close();
    this.#endpoints.clear();
  }
}
