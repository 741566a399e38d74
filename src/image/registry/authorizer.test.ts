import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { silentLog } from '../../base/log.ts';
import { anonymous } from '../auth/resolved-credentials.ts';
import { basic, failure } from '../testing/bench.ts';
import { startFakeRegistry } from '../testing/fake-registry.ts';
import { Authorizer } from './authorizer.ts';
import { TlsContexts } from './certificates.ts';
import { parseChallenges } from './challenge.ts';
import { Endpoint } from './endpoint.ts';
import { defaultLimits } from './limits.ts';
import { createLookup } from './lookup.ts';

const signal = AbortSignal.timeout(60_000);
const robot = { ...anonymous, username: 'robot', password: 'secret' };

/** A token server that answers with `answers` in turn, the last one again and again, and an endpoint with a clock of its own. */
async function openBench(...answers: readonly object[]) {
  const registry = await startFakeRegistry();
  const scopes: (string | null)[] = [];
  registry.handle = (request, response) => {
    if (request.url?.startsWith('/token') !== true) return false;
    const answer = answers[Math.min(scopes.length, answers.length - 1)];
    scopes.push(new URL(request.url, 'http://x').searchParams.get('scope'));
    response.end(JSON.stringify(answer));
    return true;
  };
  const clock = { nowMs: 0 };
  const parts = { tls: new TlsContexts([]), lookup: createLookup(), limits: defaultLimits, log: silentLog };
  const { host } = registry;
  const endpoint = new Endpoint({ host, insecure: true, ...parts, clock: { monotonicMs: () => clock.nowMs } });
  return {
    scopes,
    clock,
    authorizer: (repository: string, credentials = anonymous) => new Authorizer(endpoint, repository, credentials),
    bearer: (scope: string) => parseChallenges(`Bearer realm="http://${host}/token",service="s",scope="${scope}"`),
    async [Symbol.asyncDispose]() {
      endpoint.close();
      await registry[Symbol.asyncDispose]();
    },
  };
}

describe('a token', () => {
  for (const [answer, want] of [
    [{ token: 't' }, 't'],
    [{ access_token: 'a' }, 'a'],
    [{ token: '', access_token: 'a' }, 'a'],
    [{ token: null, access_token: 'a' }, 'a'],
    [{ token: 't', access_token: 'a' }, 't'],
  ] as const) {
    it(`is the first that is not empty: ${JSON.stringify(answer)}`, async () => {
      await using bench = await openBench(answer);
      const { authorizer, bearer } = bench;
      assert.equal(await authorizer('a').answer(bearer('repository:a:pull'), undefined, signal), `Bearer ${want}`);
    });
  }

  for (const answer of [{}, { token: '', access_token: '' }, { token: 5 }, { token: 'a b' }]) {
    it(`is not ${JSON.stringify(answer)}`, async () => {
      await using bench = await openBench(answer);
      const { authorizer, bearer } = bench;
      const answered = authorizer('a').answer(bearer('repository:a:pull'), undefined, signal);
      assert.match(await failure(answered), /token server http:.*: no token in its answer/);
    });
  }

  it('is for one repository and one user', async () => {
    await using bench = await openBench({ token: 't' });
    const { authorizer, bearer } = bench;
    await authorizer('a').answer(bearer('repository:a:pull'), undefined, signal);
    assert.equal(authorizer('a').current(), 'Bearer t');
    assert.equal(authorizer('b').current(), undefined);
    assert.equal(authorizer('a', robot).current(), undefined);
  });

  it('is asked for to pull only, for the repository that the registry names', async () => {
    await using bench = await openBench({ token: 't' });
    const { authorizer, bearer, scopes } = bench;
    for (const scope of ['repository:a:pull,push', 'repository:proxied/a:pull', 'registry:catalog:*'])
      await authorizer('a').answer(bearer(scope), undefined, signal);
    assert.deepEqual(scopes, ['repository:a:pull', 'repository:proxied/a:pull', 'repository:a:pull']);
  });

  for (const [said, seconds] of [
    [{ expires_in: 300 }, 295],
    [{}, 55],
    [{ expires_in: 'soon' }, 55],
    [{ expires_in: 2 }, 1],
    [{ expires_in: 1e9 }, 86_395],
  ] as const) {
    it(`is used for ${seconds} s after ${JSON.stringify(said)}`, async () => {
      await using bench = await openBench({ token: 't', ...said });
      const { authorizer, bearer, clock } = bench;
      await authorizer('a').answer(bearer('repository:a:pull'), undefined, signal);
      clock.nowMs = seconds * 1000 - 1;
      assert.equal(authorizer('a').current(), 'Bearer t');
      clock.nowMs += 1;
      assert.equal(authorizer('a').current(), undefined);
    });
  }
});

describe('a registry that asks for a token or a password', () => {
  for (const realm of ['""', '"no url"', 'x,service=""'])
    it(`gets the password when its token server is ${realm}`, async () => {
      await using bench = await openBench({ token: 't' });
      const challenges = parseChallenges(`Bearer realm=${realm}, Basic realm="r"`);
      const answered = bench.authorizer('a', robot).answer(challenges, undefined, signal);
      assert.equal(await answered, basic('robot', 'secret'));
    });

  it('names the token server that is none when there is no other way', async () => {
    await using bench = await openBench({ token: 't' });
    const answered = bench.authorizer('a', robot).answer(parseChallenges('Bearer realm=""'), undefined, signal);
    assert.match(await failure(answered), /token server "" is no URL/);
  });
});
