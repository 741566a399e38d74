import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { waitFor } from '../client/pods.ts';
import { buildImages } from '../fixtures/build.ts';
import { run } from '../fixtures/process.ts';
import { startRegistry } from '../fixtures/registry.ts';
import type { Registry } from '../fixtures/registry.ts';
import { startTokenServer, tokenIssuer, tokenService } from '../fixtures/token-server.ts';
import type { TokenServer } from '../fixtures/token-server.ts';
import { daemonFile } from '../run/daemon.ts';
import { failureOf, useDaemon } from './environment.ts';

/**
 * Debian's docker-registry with TLS, once with htpasswd and once with bearer tokens, whose JWTs it checks with an openssl
 * certificate. What every test says of the log: it holds no secret, at level debug.
 */
const folder = '/srv/credentials';
const home = `${folder}/home`;
const username = 'puller';
const password = 'hunter2-päss:word';
const refreshToken = 'refresh-hunter2';
// After its start: what follows does not let the event loop run.
const node = useDaemon({ env: { HOME: home, PATH: `${folder}/bin:${process.env['PATH'] ?? ''}` } }, prepare);
const name = 'docker.io/library/busybox:latest';
const auth = Buffer.from(`${username}:${password}`).toString('base64');

let basic: Registry;
let bearer: Registry;
let tokens: TokenServer;
const started: AsyncDisposable[] = [];

async function prepare(): Promise<void> {
  for (const each of [home, `${folder}/bin`]) mkdirSync(each, { recursive: true });
  const small = await buildImages('small');
  cpSync(small.storage, `${folder}/registry`, { recursive: true });
  const subject = ['-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1'];
  for (const each of ['tls', 'signer']) {
    const files = ['-keyout', `${folder}/${each}.key`, '-out', `${folder}/${each}.crt`];
    run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...subject, ...files]);
  }
  const tls = { certificate: `${folder}/tls.crt`, key: `${folder}/tls.key` };
  const signer = { certificate: `${folder}/signer.crt`, key: `${folder}/signer.key` };
  // perl's crypt(3) knows bcrypt, the only kind that docker-registry takes.
  const program = 'print crypt($ARGV[0], q($2b$05$abcdefghijklmnopqrstuu))';
  writeFileSync(`${folder}/htpasswd`, `${username}:${run('perl', ['-e', program, password])}\n`);
  tokens = await startTokenServer({ tls, signer, password: { username, password }, refreshToken });
  started.push(tokens);
  basic = await startRegistry({
    storage: `${folder}/registry`,
    tls,
    auth: { htpasswd: { realm: 'test', path: `${folder}/htpasswd` } },
  });
  started.push(basic);
  const realm = `https://${tokens.address}/token`;
  const token = { realm, service: tokenService, issuer: tokenIssuer, rootcertbundle: signer.certificate };
  bearer = await startRegistry({ storage: `${folder}/registry`, tls, auth: { token } });
  started.push(bearer);
  for (const { address } of [tokens, basic, bearer]) {
    mkdirSync(`/etc/containers/certs.d/${address}`, { recursive: true });
    cpSync(tls.certificate, `/etc/containers/certs.d/${address}/ca.crt`);
  }
}
after(async () => {
  for (const each of started) await each[Symbol.asyncDispose]();
});

const nobody = { username: '', password: '', auth: '', serverAddress: '', identityToken: '', registryToken: '' };
type Auth = Partial<typeof nobody>;

/** Pulls and removes again; the id. */
async function pull(registry: Registry, credentials?: Auth, namespace = 'default'): Promise<string> {
  const image = `${registry.address}/${name}`;
  const sandboxConfig = { metadata: { name: 'p', namespace, uid: 'u', attempt: 0 } };
  const { imageRef } = await node.client.image.pullImage({
    image: { image },
    ...(credentials && { auth: { ...nobody, ...credentials } }),
    sandboxConfig,
  });
  await node.client.image.removeImage({ image: { image } });
  return imageRef;
}

async function refusal(registry: Registry, credentials?: Auth, namespace?: string): Promise<string> {
  return (await failureOf(pull(registry, credentials, namespace))).details;
}

function writeAuth(path: string, content: object): void {
  mkdirSync(path.replace(/\/[^/]*$/, ''), { recursive: true });
  writeFileSync(path, JSON.stringify(content));
}

/** Entries for both registries. */
const both = (entry: object) => ({ auths: { [basic.address]: entry, [bearer.address]: entry } });

describe('credentials', () => {
  for (const kind of ['basic', 'bearer'] as const) {
    test(`of the request open a registry with ${kind} authentication, in every form`, async () => {
      const registry = kind === 'basic' ? basic : bearer;
      assert.match(await refusal(registry), /https:\/\/127\.0\.0\.1:\d+ \(no credentials\): .*401 unauthorized/);
      await pull(registry, { username, password });
      await pull(registry, { auth });
      await pull(registry, { username, password, serverAddress: `https://${registry.address}/v1/` });
      assert.match(await refusal(registry, { username, password, serverAddress: 'quay.io' }), /\(no credentials\)/);
      const wrong = await refusal(registry, { username, password: 'hunter2-wrong' });
      assert.match(wrong, /^unable to pull image: .*\(credentials of the request\): .*401 unauthorized/);
      assert.doesNotMatch(wrong, /hunter2/);
    });

    test(`of files open a registry with ${kind} authentication, and an error names file and entry`, async () => {
      const registry = kind === 'basic' ? basic : bearer;
      const runtime = '/run/containers/0/auth.json';
      for (const [path, content] of [
        [runtime, both({ auth })],
        [`${home}/.config/containers/auth.json`, { auths: { [`${registry.address}/docker.io/library`]: { auth } } }],
        [`${home}/.docker/config.json`, both({ username, password })],
        [`${home}/.docker/config.json`, { auths: { [`https://${registry.address}/v2/`]: { auth } } }],
      ] as const) {
        writeAuth(path, content);
        await pull(registry);
        rmSync(path);
      }
      writeAuth(runtime, { auths: { [`${registry.address}/docker.io`]: { username, password: 'hunter2-wrong' } } });
      const wrong = await refusal(registry);
      assert.ok(wrong.includes(`(auth file "${runtime}", entry "${registry.address}/docker.io"): `), wrong);
      await pull(registry, { username, password });
      rmSync(runtime);
    });
  }

  test('come from helpers that a file names, and the error names the helper', async () => {
    const helper = `${folder}/bin/docker-credential-test`;
    const answer = JSON.stringify({ Username: username, Secret: password });
    writeFileSync(helper, `#!/bin/sh\necho "$1 $(cat)" >>${folder}/helper-calls\ncat <<'E'\n${answer}\nE\n`);
    chmodSync(helper, 0o755);
    const config = `${home}/.docker/config.json`;
    for (const content of [{ credHelpers: { [basic.address]: 'test' } }, { credsStore: 'test' }]) {
      writeAuth(config, content);
      await pull(basic);
    }
    writeFileSync(helper, '#!/bin/sh\necho hunter2; exit 3\n');
    const broken = await refusal(basic);
    assert.match(broken, /run credential helper "docker-credential-test" for "127\.0\.0\.1:\d+": exit status 3/);
    assert.doesNotMatch(broken, /hunter2/);
    rmSync(config);
  });

  test('of a namespace are used for one pull of it', async () => {
    const repository = `${basic.address}/docker.io/library/busybox`;
    const file = `team-a-${createHash('sha256').update(repository).digest('hex')}.json`;
    writeAuth(`/etc/crio/auth/${file}`, both({ auth }));
    assert.match(await refusal(basic, undefined, 'team-b'), /\(no credentials\)/);
    await pull(basic, undefined, 'team-a');
    assert.deepEqual(readdirSync('/etc/crio/auth/in-use'), []);
    assert.deepEqual(readdirSync('/etc/crio/auth'), ['in-use']);
    assert.match(await refusal(basic, undefined, 'team-a'), /\(no credentials\)/);
  });

  test('of global_auth_file are the only ones when it is set', async () => {
    const file = '/etc/crio/global-auth.json';
    writeAuth('/run/containers/0/auth.json', both({ auth }));
    writeAuth(file, both({ auth }));
    const config = `[crio.image]\nglobal_auth_file = "${file}"\n`;
    mkdirSync('/etc/crio/crio.conf.d', { recursive: true });
    await node.daemon.restart('SIGTERM', () => writeFileSync('/etc/crio/crio.conf.d/90-auth.conf', config));
    await pull(basic);
    writeAuth(file, { auths: {} });
    assert.match(await refusal(basic), /\(no credentials\)/);
    rmSync(file);
    assert.match(await refusal(basic), /\(no credentials\)/, 'the usual places do not count');
    await node.daemon.restart('SIGTERM', () => rmSync('/etc/crio/crio.conf.d/90-auth.conf'));
    await pull(basic);
    rmSync('/run/containers/0/auth.json');
  });

  test('for crio pull come from its arguments, its input or a file', () => {
    const image = `${basic.address}/${name}`;
    const crioPull = (args: readonly string[], input = '') => run(daemonFile, ['pull', ...args, image], { input });
    assert.match(crioPull(['--creds', `${username}:${password}`]), /\n[0-9a-f]{64}\n$/);
    assert.match(crioPull(['--creds', username], `${password}\n`), /\n[0-9a-f]{64}\n$/);
    writeAuth(`${folder}/given.json`, both({ auth }));
    assert.match(crioPull(['--authfile', `${folder}/given.json`]), /\n[0-9a-f]{64}\n$/);
    assert.throws(
      () => crioPull(['--creds', username], 'hunter2-wrong'),
      /\(credentials of the request\): 401 unauthorized/,
    );
    writeAuth(`${folder}/given.json`, { auths: {} });
    assert.throws(() => crioPull(['--authfile', `${folder}/given.json`]), /\(no credentials\): 401 unauthorized/);
    assert.throws(
      () => crioPull(['--authfile', `${folder}/none.json`]),
      /read auth file .*none\.json\\*": no such file/,
    );
  });
});

describe('bearer tokens', () => {
  const scope = `repository:${name.replace(/:.*/, '')}:pull`;

  test('are asked for once per repository, to pull and nothing else', async () => {
    const before = tokens.requests.length;
    // A new namespace's pull, so that nothing is shared but the tokens.
    await pull(bearer, { username, password: password }, 'one');
    await pull(bearer, { username, password }, 'two');
    const asked = tokens.requests.slice(before);
    assert.ok(asked.length <= 1, `${asked.length} token requests`);
    for (const request of tokens.requests) assert.deepEqual([request.scope, request.service], [scope, tokenService]);
  });

  test('are renewed when the registry does not take them any more', async () => {
    // Another account, in the sense of the cache: these tokens end after two seconds, though they say five minutes.
    tokens.lifetimeS = 2;
    const credentials = { username, password, serverAddress: bearer.address };
    await node.daemon.restart('SIGTERM'); // no tokens
    await pull(bearer, credentials);
    const before = tokens.requests.length;
    const token = tokens.lastToken();
    await waitFor('the end of the token', 10_000, () => (isTaken(token) ? undefined : true));
    tokens.lifetimeS = 300;
    await pull(bearer, credentials);
    assert.equal(tokens.requests.length, before + 1);
  });

  test('are had for an identity token, too', async () => {
    const before = tokens.requests.length;
    await pull(bearer, { identityToken: refreshToken });
    assert.deepEqual(tokens.requests.slice(before), [
      { method: 'POST', scope, service: tokenService, authorization: undefined },
    ]);
    const wrong = await refusal(bearer, { identityToken: 'refresh-hunter2-wrong' });
    assert.match(
      wrong,
      /\(credentials of the request\): token server https:.*: 401 unauthorized: UNAUTHORIZED: not known/,
    );
    assert.doesNotMatch(wrong, /hunter2/);
  });

  test('may be given as they are', async () => {
    await pull(bearer, { registryToken: tokens.lastToken() });
    assert.match(await refusal(bearer, { registryToken: `${tokens.lastToken()}x` }), /401 unauthorized/);
  });

  /** Asked with curl, as the registry sees it. */
  function isTaken(token: string): boolean {
    const url = `https://${bearer.address}/v2/${name.replace(/:.*/, '')}/manifests/latest`;
    const options = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '--cacert', `${folder}/tls.crt`];
    return run('curl', [...options, '-H', `Authorization: Bearer ${token}`, url]) !== '401';
  }
});

test('the log at level debug holds no secret', () => {
  const secrets = [password, auth, refreshToken, tokens.lastToken(), encodeURIComponent(password), 'hunter2'];
  const log = node.daemon.log();
  assert.match(log, /Pulling image: /);
  for (const secret of secrets) assert.ok(!log.includes(secret), 'a secret is in the log');
});
