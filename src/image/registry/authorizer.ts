import { createHash } from 'node:crypto';
import { CrioError } from '../../base/errors.ts';
import type { ResolvedCredentials } from '../auth/resolved-credentials.ts';
import { isObject, parseLooseJson } from '../json.ts';
import type { Challenge } from './challenge.ts';
import type { Endpoint } from './endpoint.ts';
import { readAll } from './http.ts';
import type { HttpResponse } from './http.ts';
import { bodyLimits } from './limits.ts';
import { RegistryError, readRegistryError } from './registry-error.ts';

/** Seconds a token lives when its server does not say, by the distribution specification. */
const defaultLifetimeS = 60;
/** Tokens are renewed this much before their end. */
const marginMs = 5000;

/** The Authorization headers for one repository of one endpoint. Secrets go to this endpoint and its token server only. */
export class Authorizer {
  readonly #endpoint: Endpoint;
  readonly #repository: string;
  readonly #credentials: ResolvedCredentials;
  readonly #key: string;
  #basic = false;

  constructor(endpoint: Endpoint, repository: string, credentials: ResolvedCredentials) {
    this.#endpoint = endpoint;
    this.#repository = repository;
    this.#credentials = credentials;
    this.#key = `${fingerprint(credentials)} ${repository}`;
  }

  /** What is known to work now; undefined when nothing is. */
  current(): string | undefined {
    if (this.#credentials.registryToken !== '') return `Bearer ${this.#credentials.registryToken}`;
    if (this.#basic) return this.#basicHeader();
    const token = this.#endpoint.tokens.get(this.#key);
    return token === undefined ? undefined : `Bearer ${token}`;
  }

  /** Answers a 401. `rejected` is the header that was refused. Undefined when there is nothing else to try. */
  async answer(
    challenges: readonly Challenge[],
    rejected: string | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    if (rejected !== undefined) this.#drop(rejected);
    const hasBasic = challenges.some((challenge) => challenge.scheme === 'basic');
    const bearer = challenges.find(
      ({ scheme, parameters }) => scheme === 'bearer' && (!hasBasic || URL.canParse(parameters.get('realm') ?? '')),
    );
    if (bearer !== undefined) return this.#answerBearer(bearer, signal);
    // A registry may have changed its mind about tokens; the same password twice helps nobody.
    if (!hasBasic || rejected === this.#basicHeader()) return undefined;
    this.#basic = true;
    return this.#basicHeader();
  }

  #drop(rejected: string): void {
    if (rejected.startsWith('Bearer ')) this.#endpoint.tokens.drop(this.#key, rejected.slice('Bearer '.length));
  }

  async #answerBearer(challenge: Challenge, signal: AbortSignal): Promise<string | undefined> {
    if (this.#credentials.registryToken !== '') return undefined;
    const token = await this.#fetchToken(challenge, signal);
    this.#endpoint.tokens.set(this.#key, token.value, token.lifetimeMs);
    return `Bearer ${token.value}`;
  }

  async #fetchToken(challenge: Challenge, signal: AbortSignal): Promise<{ value: string; lifetimeMs: number }> {
    const realm = this.#realm(challenge);
    const response =
      this.#credentials.identityToken === ''
        ? await this.#requestToken(realm, challenge, signal)
        : await this.#refreshToken(realm, challenge, signal);
    if (response.status !== 200) {
      const error = await readRegistryError(response);
      throw new RegistryError({
        status: error.status,
        code: error.code,
        retryAfterMs: error.retryAfterMs,
        message: `token server ${realm.origin}: ${error.message}`,
      });
    }
    return readToken(await readAll(response, bodyLimits.token, 'token'), realm.origin);
  }

  #requestToken(realm: URL, challenge: Challenge, signal: AbortSignal): Promise<HttpResponse> {
    const url = new URL(realm);
    const service = challenge.parameters.get('service');
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.set('scope', this.#scope(challenge));
    if (this.#credentials.username !== '') url.searchParams.set('account', this.#credentials.username);
    return this.#endpoint.send({ target: url, authorization: this.#basicHeader(), signal });
  }

  /** OAuth 2 as the distribution project has it: the identity token is a refresh token. */
  #refreshToken(realm: URL, challenge: Challenge, signal: AbortSignal): Promise<HttpResponse> {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      refresh_token: this.#credentials.identityToken,
      service: challenge.parameters.get('service') ?? '',
      scope: this.#scope(challenge),
      client_id: 'cri-o',
    });
    return this.#endpoint.send({
      target: realm,
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      body: form.toString(),
      signal,
    });
  }

  /** The registry may name another scope for the same content (behind a rewriting proxy), but only to pull. */
  #scope(challenge: Challenge): string {
    const asked = challenge.parameters.get('scope') ?? '';
    return /^repository:[^\s:]+:pull$/.test(asked) ? asked : `repository:${this.#repository}:pull`;
  }

  #realm(challenge: Challenge): URL {
    const text = challenge.parameters.get('realm') ?? '';
    let realm;
    try {
      realm = new URL(text);
    } catch {
      throw new CrioError(
        'invalid',
        `${this.#endpoint.label}: token server ${JSON.stringify(text.slice(0, 200))} is no URL`,
      );
    }
    realm.username = '';
    realm.password = '';
    if (hasSecret(this.#credentials)) this.#endpoint.checkSecretScheme(realm);
    else this.#endpoint.checkScheme(realm);
    return realm;
  }

  #basicHeader(): string | undefined {
    const { username, password } = this.#credentials;
    if (username === '' && password === '') return undefined;
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }
}

function readToken(body: Buffer, server: string): { value: string; lifetimeMs: number } {
  const json = parseLooseJson(body, `token of ${server}`);
  const tokens = isObject(json) ? [json.get('token'), json.get('access_token')] : [];
  const token = tokens.find((value) => value !== undefined && value !== null && value !== '');
  if (!isObject(json) || typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw new CrioError('invalid', `token server ${server}: no token in its answer`);
  }
  const expires = json.get('expires_in');
  const lifetimeS = typeof expires === 'number' && expires > 0 ? Math.min(expires, 86_400) : defaultLifetimeS;
  return { value: token, lifetimeMs: Math.max(1000, lifetimeS * 1000 - marginMs) };
}

function hasSecret({ username, password, identityToken }: ResolvedCredentials): boolean {
  return username !== '' || password !== '' || identityToken !== '';
}

/** Tells credentials apart in cache keys without keeping them there. */
function fingerprint(credentials: ResolvedCredentials): string {
  const { username, password, identityToken, registryToken } = credentials;
  return createHash('sha256')
    .update(JSON.stringify([username, password, identityToken, registryToken]))
    .digest('base64');
}
