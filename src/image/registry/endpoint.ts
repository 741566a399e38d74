import type { LookupFunction } from 'node:net';
import { systemClock } from '../../base/clock.ts';
import type { Clock } from '../../base/clock.ts';
import { CrioError, hasCode, messageOf } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { Agents } from './agents.ts';
import { Breaker } from './breaker.ts';
import type { TlsContexts } from './certificates.ts';
import { sendRequest } from './http.ts';
import type { HttpResponse } from './http.ts';
import { maxRedirects } from './limits.ts';
import type { TransportLimits } from './limits.ts';
import { TokenCache } from './token-cache.ts';

export interface EndpointOptions {
  /** `host[:port]` as in references. */
  readonly host: string;
  /** TLS without verification, and plain HTTP where there is no TLS. */
  readonly insecure: boolean;
  /** What the configuration says about another host. */
  readonly isInsecure?: (host: string) => boolean;
  readonly tls: TlsContexts;
  readonly lookup: LookupFunction;
  readonly limits: TransportLimits;
  readonly log: Logger;
  /** For the lifetime of tokens, and the pauses in which a dead server is passed over. */
  readonly clock?: Pick<Clock, 'monotonicMs'>;
}

export interface EndpointRequest {
  /** A path of this endpoint, or a complete URL of another server that it named. */
  readonly target: string | URL;
  readonly method?: 'GET' | 'HEAD' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Sent to the first server only, never to one that a redirect names. */
  readonly authorization?: string | undefined;
  readonly signal: AbortSignal;
}

/** The host that serves a registry's API. */
const apiHosts: ReadonlyMap<string, string> = new Map([['docker.io', 'registry-1.docker.io']]);
const schemeMemoryMs = 300_000;

/**
 * One registry server: its connections, its tokens, whether it speaks TLS, and whether it was dead a moment ago.
 * Shared by all pulls.
 */
export class Endpoint {
  readonly host: string;
  readonly insecure: boolean;
  readonly limits: TransportLimits;
  readonly log: Logger;
  readonly tokens: TokenCache;
  readonly #options: EndpointOptions;
  /** Of the server, and of those it leads to: without them it is of no use, however well it answers itself. */
  readonly #breakers: Readonly<Record<'own' | 'storage' | 'tokens', Breaker>>;
  readonly #agents: Agents;
  readonly #origins: readonly string[];
  #detecting: Promise<'http' | 'https'> | undefined;
  #scheme: { readonly name: 'http' | 'https'; readonly atMs: number } | undefined;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.host = apiHosts.get(options.host) ?? options.host;
    this.insecure = options.insecure;
    this.limits = options.limits;
    this.log = options.log;
    const { clock = systemClock } = options;
    this.tokens = new TokenCache(clock);
    this.#breakers = {
      own: new Breaker(clock),
      storage: new Breaker(clock),
      tokens: new Breaker(clock),
    };
    this.#origins = originsOf(this.host, options.insecure);
    this.#agents = new Agents({
      host: options.host,
      isOwn: (url) => this.isOwn(url),
      verify: !options.insecure,
      tls: options.tls,
    });
  }

  /** True for a URL of this server, however its host and port are written; false for every other one. */
  isOwn(url: URL): boolean {
    return this.#origins.includes(url.origin);
  }

  /** Takes over certificates that have changed on disk. To be called at the start of a pull. */
  readCertificates(): Promise<void> {
    return this.#agents.refresh();
  }

  /** `https://host:port`, for people. */
  get label(): string {
    return `${this.#scheme?.name ?? 'https'}://${this.host}`;
  }

  /** Why this endpoint should be skipped when there is another; undefined when it should not. */
  get problem(): string | undefined {
    return this.#openBreaker?.problem;
  }

  /** The failure behind the problem. */
  get problemCause(): unknown {
    return this.#openBreaker?.cause;
  }

  /** True once for each problem. */
  takeNews(): boolean {
    return this.#openBreaker?.takeNews() ?? false;
  }

  get #openBreaker(): Breaker | undefined {
    const { own, storage, tokens } = this.#breakers;
    return [own, storage, tokens].find(({ problem }) => problem !== undefined);
  }

  /**
   * Sends one request and follows redirects. Throws for what kept an answer from coming; every status is an answer.
   */
  async send(request: EndpointRequest): Promise<HttpResponse> {
    const first =
      typeof request.target === 'string' ? new URL(request.target, await this.#base(request.signal)) : request.target;
    this.checkScheme(first);
    const origin = first.origin;
    let url = first;
    for (let hops = 0; ; hops += 1) {
      const isFirst = url.origin === origin;
      const response = await this.#sendCounted(url, request, isFirst ? request.authorization : undefined);
      const location = response.headers.location;
      if (!isRedirect(response.status) || location === undefined) {
        this.#breakerOf(url, request).succeeded();
        return response;
      }
      response.discard();
      if (hops === maxRedirects) throw new CrioError('unavailable', `${origin}: more than ${maxRedirects} redirects`);
      url = this.#redirectTarget(url, location);
      // A body is sent again by 307 and 308, and the only ones there are hold secrets.
      if (request.body !== undefined && url.origin !== origin)
        throw new CrioError('failed-precondition', `${origin} redirects a request with secrets to ${url.origin}`);
    }
  }

  /** Refuses plain HTTP, and everything that is not HTTP, where the registry was not declared insecure. */
  checkScheme(url: URL): void {
    if (url.protocol === 'https:' || (url.protocol === 'http:' && this.insecure)) return;
    throw new CrioError(
      'failed-precondition',
      `${this.label} leads to ${JSON.stringify(url.origin)}: only https is allowed, the registry is not configured as insecure`,
    );
  }

  /**
   * As `checkScheme`, for a token server that gets a password: over plain HTTP only when it is on a host that was declared
   * insecure, this one or another. CVE-2019-10214
   */
  checkSecretScheme(url: URL): void {
    this.checkScheme(url);
    if (url.protocol === 'https:' || url.hostname === hostnameOf(this.host)) return;
    if (this.#options.isInsecure?.(url.host) === true) return;
    throw new CrioError(
      'failed-precondition',
      `${this.label} sends passwords to ${JSON.stringify(url.origin)}: only https is allowed, "${url.host}" is not configured as insecure`,
    );
  }

  /** Closes idle connections, and the others when their answer is read. */
  retire(): void {
    this.#agents.retire();
  }

  /** Ends all connections. */
  close(): void {
    this.#agents.close();
  }

  /** A failure that says that the server is not there makes this endpoint one to pass over for a while. */
  async #sendCounted(url: URL, request: EndpointRequest, authorization?: string): Promise<HttpResponse> {
    try {
      return await this.#sendOne(url, request, authorization);
    } catch (error) {
      if (!request.signal.aborted && isDeadly(error)) {
        if (this.isOwn(url)) this.#scheme = undefined;
        this.#breakerOf(url, request).failed(messageOf(error), error);
      }
      throw error;
    }
  }

  async #sendOne(url: URL, request: EndpointRequest, authorization?: string): Promise<HttpResponse> {
    return sendRequest({
      url,
      method: request.method ?? 'GET',
      headers: { ...request.headers, ...(authorization === undefined ? {} : { Authorization: authorization }) },
      ...(request.body === undefined ? {} : { body: request.body }),
      agent: await this.#agents.for(url),
      lookup: this.#options.lookup,
      limits: this.limits,
      signal: request.signal,
      onTooSlow: (reason) => this.#breakerOf(url, request).failed(reason),
    });
  }

  /** A path is content, and comes from a storage when another server has it; of URLs only those of token servers are foreign. */
  #breakerOf(url: URL, { target }: EndpointRequest): Breaker {
    if (this.isOwn(url)) return this.#breakers.own;
    return typeof target === 'string' ? this.#breakers.storage : this.#breakers.tokens;
  }

  #redirectTarget(from: URL, location: string): URL {
    let url;
    try {
      url = new URL(location, from);
    } catch {
      throw new CrioError(
        'invalid',
        `${from.origin}: redirect to ${JSON.stringify(location.slice(0, 200))}, which is no URL`,
      );
    }
    // Credentials inside a URL would be sent by the client as its own.
    url.username = '';
    url.password = '';
    this.checkScheme(url);
    return url;
  }

  async #base(signal: AbortSignal): Promise<string> {
    if (!this.insecure) return `https://${this.host}`;
    if (this.#scheme === undefined || performance.now() - this.#scheme.atMs > schemeMemoryMs) {
      // One question for all requests that start now; the caller's end must not be the others'.
      this.#detecting ??= this.#detectScheme(neverAborted).finally(() => (this.#detecting = undefined));
      this.#scheme = { name: await untilAborted(this.#detecting, signal), atMs: performance.now() };
    }
    return `${this.#scheme.name}://${this.host}`;
  }

  /** An insecure registry may speak either: TLS is tried first, HTTP when the connection fails. */
  async #detectScheme(signal: AbortSignal): Promise<'http' | 'https'> {
    try {
      const response = await this.#sendOne(new URL(`https://${this.host}/v2/`), { target: '', signal });
      response.discard();
      return 'https';
    } catch (error) {
      if (signal.aborted) throw error;
      this.log.debug(() => `Registry ${this.host} does not speak TLS, trying HTTP: ${messageOf(error)}`);
    }
    const response = await this.#sendCounted(new URL(`http://${this.host}/v2/`), { target: '', signal });
    response.discard();
    return 'http';
  }
}

const neverAborted = new AbortController().signal;

/** Waits for something that goes on when this waiter has gone. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  // Its failure may come when nobody is left to see it.
  promise.catch(() => {});
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** A host may be written with a default port or in upper case. One that is no host has none. */
function originsOf(host: string, insecure: boolean): readonly string[] {
  const schemes = insecure ? ['https', 'http'] : ['https'];
  return schemes.flatMap((scheme) => URL.parse(`${scheme}://${host}`)?.origin ?? []);
}

function hostnameOf(host: string): string {
  return new URL(`http://${host}`).hostname;
}

function isRedirect(status: number): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

/** Failures that say the server is not there, in contrast to one broken connection. */
function isDeadly(error: unknown): boolean {
  if (error instanceof CrioError) return error.kind === 'deadline';
  return hasCode(
    error,
    'ECONNREFUSED',
    'ENOTFOUND',
    'EAI_AGAIN',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'ETIMEDOUT',
    'EHOSTDOWN',
    'ENETDOWN',
  );
}
