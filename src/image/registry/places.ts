import type { Logger } from '../../base/log.ts';
import type { ResolvedCredentials } from '../auth/resolved-credentials.ts';
import type { PullSource } from '../registries-conf.ts';
import { RegistryClient } from './client.ts';
import type { Endpoint } from './endpoint.ts';
import { causeText, describeFailures } from './failures.ts';
import { RegistryError } from './registry-error.ts';

/** One place that may have an image. Its credentials are looked up when it is first asked. */
export class Place {
  readonly source: PullSource;
  readonly #endpoint: Endpoint;
  readonly #findCredentials: (signal: AbortSignal) => Promise<ResolvedCredentials>;
  readonly #log: Logger;
  #client: RegistryClient | undefined;
  #isTold = false;

  constructor(options: {
    source: PullSource;
    endpoint: Endpoint;
    findCredentials: (signal: AbortSignal) => Promise<ResolvedCredentials>;
    log: Logger;
  }) {
    this.source = options.source;
    this.#endpoint = options.endpoint;
    this.#findCredentials = options.findCredentials;
    this.#log = options.log;
  }

  get label(): string {
    return this.#endpoint.label;
  }

  /** Why to try another place first; undefined for no reason. */
  get problem(): string | undefined {
    return this.#endpoint.problem;
  }

  get problemCause(): unknown {
    return this.#endpoint.problemCause;
  }

  async open(signal: AbortSignal): Promise<RegistryClient> {
    this.#client ??= await this.#newClient(signal);
    return this.#client;
  }

  async #newClient(signal: AbortSignal): Promise<RegistryClient> {
    // Once per pull, as with the other container tools: a pair of files that is being replaced must not end one half-way.
    await this.#endpoint.readCertificates();
    const credentials = await this.#findCredentials(signal);
    return new RegistryClient({ source: this.source, endpoint: this.#endpoint, credentials, log: this.#log });
  }

  /**
   * To be called when another place answered what this one did not. Said once in a pull, of a dead server once for each
   * pause; a mirror may well not have an image.
   */
  passedOver(error: unknown): void {
    if (this.#isTold || (error instanceof RegistryError && error.status === 404)) return;
    this.#isTold = true;
    const { problem } = this.#endpoint;
    if (problem !== undefined && !this.#endpoint.takeNews()) return;
    this.#log.warn(`Registry ${this.describe()} was passed over: ${problem ?? causeText(error)}`);
  }

  /** For error texts. The path of the repository is there when registries.conf changed it. */
  describe(): string {
    const { isMirror, hasOtherPath, reference } = this.source;
    const details = [...(isMirror ? ['mirror'] : []), this.#client?.credentialSource ?? 'not asked'];
    return `${this.label}${hasOtherPath ? `/${reference.path}` : ''} (${details.join(', ')})`;
  }
}

/** The same places, those that were dead or too slow a moment ago last. */
export function healthyFirst(places: readonly Place[]): readonly Place[] {
  return places.toSorted((a, b) => Number(a.problem !== undefined) - Number(b.problem !== undefined));
}

/** Those of one request that did not give what was asked for, and why. */
export class FailedPlaces {
  readonly #failed: { readonly place: Place; readonly error: unknown }[] = [];

  add(place: Place, error: unknown): void {
    this.#failed.push({ place, error });
  }

  get places(): readonly Place[] {
    return this.#failed.map(({ place }) => place);
  }

  /** Another place answered. */
  passedOver(): void {
    for (const { place, error } of this.#failed) place.passedOver(error);
  }

  /** Nobody did: the error that lists each of them. */
  describe(what: string): Error {
    return describeFailures(
      what,
      this.#failed.map(({ place, error }) => ({ where: place.describe(), error, isMirror: place.source.isMirror })),
    );
  }
}

/**
 * Asks each place in turn until one answers; a mirror that was dead a moment ago is passed over. Returns the answer and
 * the places in the order to ask next: the one that answered, the ones not tried, those that failed.
 */
export async function askPlaces<T>(
  what: string,
  places: readonly Place[],
  signal: AbortSignal,
  ask: (client: RegistryClient) => Promise<T>,
): Promise<{ readonly answer: T; readonly places: readonly Place[] }> {
  const failed = new FailedPlaces();
  for (const [index, place] of places.entries()) {
    const isLast = index === places.length - 1;
    try {
      if (!isLast && place.problem !== undefined) throw new Error(place.problem, { cause: place.problemCause });
      const answer = await ask(await place.open(signal));
      failed.passedOver();
      return { answer, places: [place, ...places.slice(index + 1), ...failed.places] };
    } catch (error) {
      if (signal.aborted) throw error;
      failed.add(place, error);
    }
  }
  throw failed.describe(what);
}
