import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { silentLog } from '../base/log.ts';
import { Authorizer } from './registry/authorizer.ts';
import { Endpoints } from './registry/endpoints.ts';
import { defaultLimits } from './registry/limits.ts';
import { basic, failure, openBench } from './testing/bench.ts';
import { putImage, sendError, startFakeRegistry } from './testing/fake-registry.ts';
import type { FakeRegistry } from './testing/fake-registry.ts';

describe('credentials', () => {
  const tokenRegistry = (registry: FakeRegistry, accept: (authorization: string | undefined) => boolean) => {
    const state = { tokens: 0, scopes: [] as (string | null)[] };
    registry.handle = (request, response) => {
      const url = new URL(request.url ?? '/', `http://${registry.host}`);
      if (url.pathname === '/token') {
        state.scopes.push(url.searchParams.get('scope'));
        if (!accept(request.headers.authorization)) {
          sendError(response, 401, 'UNAUTHORIZED', 'wrong password');
          return true;
        }
        state.tokens += 1;
        response.end(JSON.stringify({ token: `token-${state.tokens}`, expires_in: 300 }));
        return true;
      }
      if (request.headers.authorization === `Bearer token-${state.tokens}` && state.tokens > 0) return false;
      sendError(
        response.setHeader(
          'WWW-Authenticate',
          `Bearer realm="http://${registry.host}/token",service="s",scope="repository:a:pull"`,
        ),
        401,
        'UNAUTHORIZED',
        'authentication required',
      );
      return true;
    };
    return state;
  };

  it('fetches one token for all requests of a repository, and a new one when it is revoked', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    putImage(registry, 'a', '1', { layers: [Buffer.from('x'), Buffer.from('y')] });
    const state = tokenRegistry(registry, (authorization) => authorization === basic('u', 'p'));
    await bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } });
    assert.deepEqual(state.scopes, ['repository:a:pull']);
    state.tokens += 1;
    await bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } });
    assert.equal(state.scopes.length, 2);
  });

  it('says which source was used, and never the secret', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    putImage(registry, 'a', '1');
    tokenRegistry(registry, () => false);
    const text = await failure(
      bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'hunter2' } }),
    );
    assert.match(
      text,
      /^unable to pull image: pull ".*\/a:1": read manifest 1: http:\/\/127\.0\.0\.1:\d+ \(credentials of the request\): token server http:.*: 401 unauthorized: UNAUTHORIZED: wrong password$/,
    );
    assert.ok(!text.includes('hunter2'));
  });

  it('takes them from an auth file by the longest entry and names it', async () => {
    await using bench = await openBench({ image: (dir) => ({ globalAuthFile: join(dir, 'auth.json') }) });
    const { registry } = bench;
    const authFile = join(bench.dir, 'auth.json');
    const auth = (user: string) => ({ auth: Buffer.from(`${user}:pw`).toString('base64') });
    await writeFile(
      authFile,
      JSON.stringify({
        auths: {
          [registry.host]: auth('all'),
          [`${registry.host}/team`]: auth('team'),
          [`http://${registry.host}/v2/`]: auth('old'),
        },
      }),
    );
    putImage(registry, 'team/app', '1');
    const seen = new Set<string | undefined>();
    registry.handle = (request, response) => {
      if (request.url === '/v2/') return false;
      if (request.headers.authorization === undefined)
        sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
      else seen.add(request.headers.authorization);
      return request.headers.authorization === undefined;
    };
    await bench.pull(`${registry.host}/team/app:1`);
    assert.deepEqual([...seen], [basic('team', 'pw')]);
    registry.handle = (_, response) => {
      sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
      return true;
    };
    assert.match(
      await failure(bench.pull(`${registry.host}/team/app:1`)),
      /\(auth file ".*auth\.json", entry "127\.0\.0\.1:\d+\/team"\): 401/,
    );
  });

  it('does not send those of the request to a mirror', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror.host}"\ninsecure = true`,
    });
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    const demand = (target: FakeRegistry) => {
      target.handle = (request, response) => {
        if (request.url === '/v2/' || request.headers.authorization !== undefined) return false;
        sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
        return true;
      };
    };
    demand(mirror);
    demand(registry);
    assert.equal(await bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } }), image.id);
    assert.ok(mirror.requests.length > 0);
    assert.ok(mirror.requests.every(({ authorization }) => authorization === undefined));
  });

  it('uses a file for the namespace once', async () => {
    await using bench = await openBench({ image: (dir) => ({ namespacedAuthDir: join(dir, 'auth') }) });
    const folder = join(bench.dir, 'auth');
    await mkdir(folder);
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    const name = `prod-${createHash('sha256').update(`${registry.host}/a`).digest('hex')}.json`;
    await writeFile(
      join(folder, name),
      JSON.stringify({ auths: { [registry.host]: { auth: Buffer.from('n:s').toString('base64') } } }),
    );
    registry.handle = (request, response) => {
      if (request.url === '/v2/' || request.headers.authorization === basic('n', 's')) return false;
      sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
      return true;
    };
    assert.equal(await bench.pull(`${registry.host}/a:1`, { namespace: 'prod' }), image.id);
    assert.deepEqual(await readdir(folder), ['in-use']);
    assert.deepEqual(await readdir(join(folder, 'in-use')), []);
    assert.match(await failure(bench.pull(`${registry.host}/a:1`, { namespace: 'prod' })), /401/);
  });

  it('CVE-2019-10214: refuses a token server on plain HTTP for a registry that is not insecure', async () => {
    using endpoints = new Endpoints({ limits: defaultLimits, certificateDirs: [], log: silentLog });
    const authorizer = new Authorizer(endpoints.get('r.io', false), 'a', {
      username: 'u',
      password: 'p',
      identityToken: '',
      registryToken: '',
      source: 's',
    });
    const challenge = { scheme: 'bearer', parameters: new Map([['realm', 'http://127.0.0.1:1/token']]) };
    assert.match(
      await failure(authorizer.answer([challenge], undefined, new AbortController().signal)),
      /only https is allowed/,
    );
  });
});
