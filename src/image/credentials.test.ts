import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Call } from '../base/call.ts';
import { Logger, silentLog } from '../base/log.ts';
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

  it('pulls public images without the configured auth file, and says so at start; one for this pull must be there', async () => {
    const lines: string[] = [];
    const log = new Logger({ level: 'warn', filter: undefined, format: 'text', write: (line) => lines.push(line) });
    await using bench = await openBench({ log, image: (dir) => ({ globalAuthFile: join(dir, 'none.json') }) });
    const { registry, images, dir } = bench;
    putImage(registry, 'a', '1');
    assert.match(lines.join(''), /level=warning msg="global_auth_file: no such file \\".*none\.json/);
    await bench.pull(`${registry.host}/a:1`);
    const call = new Call({ name: 'PullImage', id: 't', log: silentLog });
    const authFile = join(dir, 'given.json');
    const request = { reference: `${registry.host}/a:1`, namespace: '', cgroupParent: '', credentials: undefined };
    assert.match(
      await failure(images.pull(call, { ...request, authFile })),
      /^unable to pull image: read auth file ".*given\.json": no such file$/,
    );
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

  it('of a namespace are there until the last place has been asked', async () => {
    await using mirror = await startFakeRegistry();
    await using bench = await openBench({
      image: (dir) => ({ namespacedAuthDir: join(dir, 'auth') }),
      toml: (host) =>
        `[[registry]]\nlocation = "${host}"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror.host}"\ninsecure = true`,
    });
    const { registry, dir } = bench;
    const name = `prod-${createHash('sha256').update(`${registry.host}/a`).digest('hex')}.json`;
    mkdirSync(join(dir, 'auth'));
    const auth = Buffer.from('n:s').toString('base64');
    writeFileSync(join(dir, 'auth', name), JSON.stringify({ auths: { [registry.host]: { auth } } }));
    const image = putImage(registry, 'a', '1');
    registry.handle = demandPassword;
    assert.equal(await bench.pull(`${registry.host}/a:1`, { namespace: 'prod' }), image.id);
    assert.ok(mirror.requests.length > 0);
    assert.deepEqual(await readdir(join(dir, 'auth/in-use')), []);
  });

  it('of a pull that a crash ended are deleted at the next start, and nothing else is', async () => {
    const key = 'a'.repeat(64);
    const left = `prod-${key}-00000000-0000-4000-8000-000000000000.json`;
    await using bench = await openBench({
      image: (dir) => {
        mkdirSync(join(dir, 'auth/in-use'), { recursive: true });
        for (const name of [left, 'note.json']) writeFileSync(join(dir, 'auth/in-use', name), '{}');
        writeFileSync(join(dir, 'auth', `prod-${key}.json`), '{}');
        return { namespacedAuthDir: join(dir, 'auth') };
      },
    });
    assert.deepEqual(await readdir(join(bench.dir, 'auth/in-use')), ['note.json']);
    assert.deepEqual((await readdir(join(bench.dir, 'auth'))).toSorted(), ['in-use', `prod-${key}.json`]);
  });

  it('those of the request do not go to a location on another host, unless they name it', async () => {
    await using other = await startFakeRegistry();
    await using bench = await openBench({
      toml: (host) => `[[registry]]\nprefix = "${host}/a"\nlocation = "${other.host}/a"\ninsecure = true`,
    });
    const image = putImage(other, 'a', '1');
    other.handle = demandPassword;
    const password = { username: 'u', password: 'p' };
    assert.match(
      await failure(bench.pull(`${bench.registry.host}/a:1`, { credentials: password })),
      /\(no credentials\): 401 unauthorized/,
    );
    assert.ok(other.requests.every(({ authorization }) => authorization === undefined));
    const named = { ...password, serverAddress: `https://${other.host}/v2/` };
    assert.equal(await bench.pull(`${bench.registry.host}/a:1`, { credentials: named }), image.id);
    assert.deepEqual(bench.registry.requests, []);
  });

  it('CVE-2020-15157: a refresh token does not follow the redirect of a token server to another host', async () => {
    await using evil = await startFakeRegistry();
    await using bench = await openBench();
    const { registry } = bench;
    putImage(registry, 'a', '1');
    let asked = 0;
    registry.handle = (request, response) => {
      if (request.url === '/v2/') return false;
      if (request.method === 'POST') {
        asked += 1;
        response.writeHead(307, { Location: `http://${evil.host}/token` }).end();
      } else {
        const bearer = `Bearer realm="http://${registry.host}/token",service="s"`;
        sendError(response.setHeader('WWW-Authenticate', bearer), 401, 'UNAUTHORIZED', 'no');
      }
      return true;
    };
    const text = await failure(bench.pull(`${registry.host}/a:1`, { credentials: { identityToken: 'hunter2' } }));
    assert.match(text, /redirects a request with secrets to http:\/\/127\.0\.0\.1/);
    assert.ok(asked > 0 && !text.includes('hunter2'));
    assert.deepEqual(evil.requests, []);
  });

  it('CVE-2019-10214: passwords go to a token server on plain HTTP only when its host was declared insecure', async () => {
    for (const isDeclared of [false, true]) {
      await using tokens = await startFakeRegistry();
      const tokenHost = tokens.host.replace('127.0.0.1', 'localhost');
      const declared = isDeclared ? `[[registry]]\nlocation = "${tokenHost}"\ninsecure = true\n` : '';
      await using bench = await openBench({
        toml: (host) => `${declared}[[registry]]\nlocation = "${host}"\ninsecure = true`,
      });
      const { registry } = bench;
      const image = putImage(registry, 'a', '1');
      tokens.handle = (_, response) => {
        response.end('{"token":"t"}');
        return true;
      };
      registry.handle = (request, response) => {
        if (request.url === '/v2/' || request.headers.authorization === 'Bearer t') return false;
        const bearer = `Bearer realm="http://${tokenHost}/token",service="s"`;
        sendError(response.setHeader('WWW-Authenticate', bearer), 401, 'UNAUTHORIZED', 'no');
        return true;
      };
      // Without a secret there is nothing to lose.
      assert.equal(await bench.pull(`${registry.host}/a:1`), image.id);
      const asked = tokens.requests.length;
      const pulled = bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } });
      if (isDeclared) assert.equal(await pulled, image.id);
      else assert.match(await failure(pulled), /"localhost:\d+" is not configured as insecure/);
      const sent = tokens.requests.slice(asked).map(({ authorization }) => authorization);
      assert.deepEqual(sent, isDeclared ? [basic('u', 'p')] : []);
    }
  });

  it('answers a registry that wants a password instead of a token from now on', async () => {
    await using bench = await openBench();
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    const state = tokenRegistry(registry, () => true);
    const pull = () => bench.pull(`${registry.host}/a:1`, { credentials: { username: 'u', password: 'p' } });
    await pull();
    registry.handle = demandPassword;
    assert.equal(await pull(), image.id);
    assert.equal(state.tokens, 1);
  });

  it('go to a host that is written in upper case', async () => {
    const nameOf = (host: string) => host.replace('127.0.0.1', 'LocalHost');
    await using bench = await openBench({
      toml: (host) => `[[registry]]\nlocation = "${nameOf(host)}"\ninsecure = true`,
    });
    const { registry } = bench;
    const image = putImage(registry, 'a', '1');
    registry.handle = demandPassword;
    const credentials = { username: 'u', password: 'p' };
    assert.equal(await bench.pull(`${nameOf(registry.host)}/a:1`, { credentials }), image.id);
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

/** Basic authentication with any password. */
function demandPassword(request: IncomingMessage, response: ServerResponse): boolean {
  if (request.url === '/v2/' || request.headers.authorization?.startsWith('Basic ') === true) return false;
  sendError(response.setHeader('WWW-Authenticate', 'Basic realm="x"'), 401, 'UNAUTHORIZED', 'no');
  return true;
}
