import { CrioError } from '../../base/errors.ts';
import type { Digest } from '../../base/ids.ts';
import type { Logger } from '../../base/log.ts';
import type { ResolvedCredentials } from '../auth/resolved-credentials.ts';
import { checkDigest, digestOf } from '../digest.ts';
import { acceptedManifests } from '../media-types.ts';
import { parseDigest } from '../reference.ts';
import { signedPayload } from '../schema1.ts';
import type { PullSource } from '../registries-conf.ts';
import { Authorizer } from './authorizer.ts';
import { parseChallenges } from './challenge.ts';
import type { Endpoint } from './endpoint.ts';
import { readAll } from './http.ts';
import type { HttpResponse } from './http.ts';
import { bodyLimits } from './limits.ts';
import { readRegistryError, RegistryError } from './registry-error.ts';
import { withRetries } from './retry.ts';

export interface FetchedManifest {
  readonly data: Buffer;
  readonly contentType: string;
  readonly digest: Digest;
}

interface GetOptions {
  readonly accept: string;
  readonly range?: number;
  readonly signal: AbortSignal;
}

/** Reads one repository at one endpoint, with its credentials and with retries. */
export class RegistryClient {
  readonly source: PullSource;
  readonly endpoint: Endpoint;
  readonly credentialSource: string;
  readonly #authorizer: Authorizer;
  readonly #log: Logger;
  readonly #base: string;

  constructor(options: { source: PullSource; endpoint: Endpoint; credentials: ResolvedCredentials; log: Logger }) {
    this.source = options.source;
    this.endpoint = options.endpoint;
    this.credentialSource = options.credentials.source;
    this.#log = options.log;
    const repository = options.source.reference.path;
    this.#authorizer = new Authorizer(options.endpoint, repository, options.credentials);
    this.#base = `/v2/${repository}`;
  }

  /** By tag or digest. The answer has the digest asked for, or the one it claims. */
  async fetchManifest(tagOrDigest: string, signal: AbortSignal): Promise<FetchedManifest> {
    const what = `manifest ${tagOrDigest}`;
    const path = `${this.#base}/manifests/${tagOrDigest}`;
    const { response, data } = await this.#get(path, { accept: acceptedManifests, signal }, async (response) => ({
      response,
      data: await readAll(response, bodyLimits.manifest, what),
    }));
    const claimed = header(response, 'docker-content-digest');
    const content = signedPayload(data) ?? data;
    if (tagOrDigest.includes(':')) checkDigest(content, parseDigest(tagOrDigest), what);
    else if (claimed !== undefined)
      checkDigest(content, parseDigest(claimed), `${what} against its Docker-Content-Digest`);
    const digest = tagOrDigest.includes(':') ? parseDigest(tagOrDigest) : digestOf(content);
    return { data, contentType: header(response, 'content-type') ?? '', digest };
  }

  /** A small blob, whole, with its digest checked. */
  async fetchBlob(
    blob: { readonly digest: Digest; readonly size: number },
    limit: number,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const what = `blob ${blob.digest}`;
    if (blob.size > limit)
      throw new CrioError('resource-exhausted', `read ${what}: ${blob.size} bytes, more than ${limit}`);
    const data = await this.#get(`${this.#base}/blobs/${blob.digest}`, { accept: '*/*', signal }, (response) =>
      readAll(response, limit, what),
    );
    if (data.length !== blob.size)
      throw new CrioError('invalid', `read ${what}: ${data.length} bytes, expected ${blob.size}`);
    checkDigest(data, blob.digest, what);
    return data;
  }

  /** A blob from `offset` on; a server that ignores ranges sends it from the start, which `offset` of the result tells. */
  async openBlob(
    digest: Digest,
    offset: number,
    signal: AbortSignal,
  ): Promise<{ body: AsyncIterable<Buffer>; offset: number; discard: () => void }> {
    const path = `${this.#base}/blobs/${digest}`;
    const get = (range: object) => this.#get(path, { accept: '*/*', signal, ...range }, async (answer) => answer);
    const response = await get(offset > 0 ? { range: offset } : {}).catch((error: unknown) => {
      // "Range not satisfiable": from the start then, as from a server that ignores ranges.
      if (offset === 0 || !(error instanceof RegistryError) || error.status !== 416) throw error;
      return get({});
    });
    const discard = () => response.discard();
    if (response.status !== 206) return { body: response.body, offset: 0, discard };
    const start = /^bytes (\d+)-/.exec(header(response, 'content-range') ?? '')?.[1];
    if (offset === 0 || Number(start) !== offset) {
      response.discard();
      throw new CrioError('unavailable', `${this.endpoint.label}: answered another range than asked for`);
    }
    return { body: response.body, offset, discard };
  }

  /** `use` is a part of each try: what breaks while it reads is asked for again. */
  #get<T>(path: string, options: GetOptions, use: (response: HttpResponse) => Promise<T>): Promise<T> {
    return withRetries({ endpoint: this.endpoint, signal: options.signal, log: this.#log }, async () => {
      const response = await this.#getAuthorized(path, options);
      if (response.status === 200 || response.status === 206) return use(response);
      throw await readRegistryError(response);
    });
  }

  async #getAuthorized(path: string, options: GetOptions): Promise<HttpResponse> {
    let authorization = this.#authorizer.current();
    // Two rounds: a cached token may have been revoked, and its successor may need other challenges answered.
    for (let round = 0; ; round += 1) {
      const response = await this.#send(path, options, authorization);
      if (response.status !== 401 || round === 2 || !this.endpoint.isOwn(response.url)) return response;
      const challenges = parseChallenges(header(response, 'www-authenticate'));
      const next = await this.#authorizer.answer(challenges, authorization, options.signal);
      if (next === undefined || next === authorization) return response;
      response.discard();
      authorization = next;
    }
  }

  #send(path: string, options: GetOptions, authorization: string | undefined): Promise<HttpResponse> {
    const range = options.range === undefined ? {} : { Range: `bytes=${options.range}-` };
    return this.endpoint.send({
      target: path,
      headers: { Accept: options.accept, 'User-Agent': 'cri-o', ...range },
      authorization,
      signal: options.signal,
    });
  }
}

function header(response: HttpResponse, name: string): string | undefined {
  const value = response.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}
