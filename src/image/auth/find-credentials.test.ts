import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { env } from 'node:process';
import { after, before, describe, it } from 'node:test';
import { messageOf } from '../../base/errors.ts';
import { parseReference } from '../reference.ts';
import { findInAuthFile, parseAuthFile, registryKey } from './auth-file.ts';
import { defaultAuthFiles, findCredentials } from './find-credentials.ts';
import { anonymous } from './resolved-credentials.ts';

const never = new AbortController().signal;
const encode = (text: string) => Buffer.from(text).toString('base64');
const file = (value: unknown, path = 'auth.json') => parseAuthFile(Buffer.from(JSON.stringify(value)), path);

describe('findInAuthFile', () => {
  it('takes the longest entry, and all names of Docker Hub and old URLs as one', () => {
    const auths = Object.fromEntries(
      ['q.io', 'q.io/a', 'q.io/a/b', 'https://index.docker.io/v1/', 'https://old.io/v2/'].map((key) => [
        key,
        { auth: encode(`${key}:p:w`) },
      ]),
    );
    const find = (name: string) => findInAuthFile(file({ auths }), parseReference(name))?.username;
    assert.equal(find('q.io/a/b:1'), 'q.io/a/b'.split(':')[0]);
    assert.equal(find('q.io/a/bc'), 'q.io/a');
    assert.equal(find('q.io/ab'), 'q.io');
    assert.equal(find('q.io.evil/a'), undefined);
    assert.equal(find('busybox'), 'https');
    assert.equal(find('old.io/x'), 'https');
  });

  it('reads tokens, plain fields and the old file without "auths"', () => {
    const tokens = file({
      auths: {
        'a.io': { identitytoken: 'i' },
        'b.io': { registrytoken: 'r' },
        'c.io': { username: 'u', password: 'p' },
        'd.io': {},
      },
    });
    const find = (name: string, from = tokens) => findInAuthFile(from, parseReference(name));
    assert.equal(find('a.io/x')?.identityToken, 'i');
    assert.equal(find('b.io/x')?.registryToken, 'r');
    assert.equal(find('c.io/x')?.password, 'p');
    assert.equal(find('d.io/x'), undefined);
    assert.equal(find('a.io/x', file({ 'a.io': { auth: encode('u:p') } }, '/root/.dockercfg'))?.username, 'u');
  });

  it('names the file and the entry, but never the content, when it cannot be read; for other registries it is no fault', () => {
    const broken = file({
      auths: { 'a.io': { auth: encode('secret-without-colon') }, 'b.io': 'text', 'c.io': { auth: encode('u:p') } },
    });
    assert.equal(findInAuthFile(broken, parseReference('c.io/x'))?.username, 'u');
    assert.equal(findInAuthFile(broken, parseReference('d.io/x')), undefined);
    assert.throws(() => findInAuthFile(broken, parseReference('b.io/x')), /auth file "auth\.json".*expected an object/);
    assert.throws(() => file({ auths: [] }), /expected an object/);
  });

  it('goes on without an entry that has no user and password, and the source says why, without its content', () => {
    const auths = { 'a.io/team': { auth: encode('secret') }, 'a.io': { auth: encode('u:p') } };
    const unusable = findInAuthFile(file({ auths }), parseReference('a.io/team/x'));
    assert.deepEqual(unusable, {
      ...anonymous,
      source: 'no credentials: auth file "auth.json", entry "a.io/team": auth is not base64 of "user:password"',
    });
    const twice = file({ auths: { 'a.io': auths['a.io/team'], 'https://a.io/v2/': auths['a.io'] } });
    assert.equal(findInAuthFile(twice, parseReference('a.io/x'))?.username, 'u');
  });

  it('knows a registry by one key', () => {
    assert.equal(registryKey('https://index.docker.io/v1/'), 'docker.io');
    assert.equal(registryKey('http://a.io:5000/v2/'), 'a.io:5000');
    assert.equal(registryKey('a.io/team/app'), 'a.io/team/app');
  });
});

describe('findCredentials', () => {
  let dir = '';
  const path = env['PATH'];
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'helper-'));
    const helper = join(dir, 'docker-credential-test');
    await writeFile(
      helper,
      `#!/bin/sh
server=$(cat)
echo "$1 $server" >> "${dir}/calls"
case $server in
  a.io) echo '{"ServerURL":"a.io","Username":"helper","Secret":"s3cret"}' ;;
  t.io) echo '{"ServerURL":"t.io","Username":"<token>","Secret":"identity"}' ;;
  empty.io) echo '{"ServerURL":"empty.io","Username":"","Secret":""}' ;;
  broken.io) echo s3cret; exit 3 ;;
  *) echo credentials not found in native keychain; exit 1 ;;
esac
`,
    );
    await chmod(helper, 0o755);
    env['PATH'] = `${dir}:${path ?? ''}`;
  });
  after(async () => {
    env['PATH'] = path;
    await rm(dir, { recursive: true });
  });

  const find = (name: string, files: Partial<Parameters<typeof findCredentials>[0]>) =>
    findCredentials({ explicit: undefined, defaults: [], helpers: undefined, ...files }, parseReference(name), never);

  it('asks the helper of a registry, of the file, or of registries.conf', async () => {
    const auth = join(dir, 'helpers.json');
    await writeFile(
      auth,
      JSON.stringify({
        credHelpers: { 'a.io': 'test' },
        auths: { 'a.io': { auth: encode('file:x') }, 'b.io': { auth: encode('file:x') } },
      }),
    );
    const own = await find('a.io/x', { defaults: [join(dir, 'none'), auth] });
    assert.deepEqual([own?.username, own?.password], ['helper', 's3cret']);
    assert.match(own?.source ?? '', /auth file ".*helpers\.json", helper docker-credential-test for "a\.io"/);
    assert.equal((await find('b.io/x', { defaults: [auth] }))?.username, 'file');
    assert.equal(await find('c.io/x', { helpers: ['test', 'containers-auth.json'], defaults: [auth] }), undefined);
    assert.equal((await find('t.io/x', { helpers: ['test'] }))?.identityToken, 'identity');
    await writeFile(auth, JSON.stringify({ credsStore: 'test' }));
    const common = await find('a.io/x', { defaults: [auth] });
    assert.equal(common?.username, 'helper');
    assert.match(common.source, /^auth file ".*helpers\.json", helper docker-credential-test for "a\.io"$/);
  });

  it('asks for Docker Hub by the name that the one who configured the helper stores it under', async () => {
    const auth = join(dir, 'hub.json');
    const asked = async (content: object, helpers?: readonly string[]) => {
      await writeFile(auth, JSON.stringify(content));
      await writeFile(join(dir, 'calls'), '');
      await find('docker.io/team/app', { defaults: [auth], helpers });
      return readFile(join(dir, 'calls'), 'utf8');
    };
    assert.equal(await asked({}, ['test']), 'get docker.io\n', 'credential-helpers of registries.conf');
    assert.equal(await asked({ credHelpers: { 'docker.io': 'test' } }), 'get docker.io\n');
    const url = 'https://index.docker.io/v1/';
    assert.equal(await asked({ credHelpers: { [url]: 'test' } }), `get ${url}\n`, 'as Docker writes it');
    assert.equal(await asked({ credsStore: 'test' }), `get ${url}\n`);
  });

  it('says which helper failed and not what it printed', async () => {
    await assert.rejects(find('broken.io/x', { helpers: ['test'] }), (error) => {
      assert.match(messageOf(error), /run credential helper "docker-credential-test" for "broken\.io": exit status 3/);
      return !messageOf(error).includes('s3cret');
    });
    const auth = join(dir, 'broken.json');
    await writeFile(auth, JSON.stringify({ credsStore: 'test' }));
    await assert.rejects(
      find('broken.io/x', { defaults: [auth] }),
      /^CrioError: auth file ".*broken\.json": run credential/,
    );
    await assert.rejects(find('a.io/x', { helpers: ['missing-helper'] }), /docker-credential-missing-helper.*ENOENT/);
    await assert.rejects(find('a.io/x', { helpers: ['../../bin/sh'] }), /not a name/);
  });

  it('finds nothing in a configured file that is missing, and does not look elsewhere', async () => {
    const auth = join(dir, 'usual.json');
    await writeFile(auth, JSON.stringify({ auths: { 'a.io': { auth: encode('u:p') } } }));
    assert.equal(await find('a.io/x', { explicit: join(dir, 'none'), defaults: [auth] }), undefined);
    await assert.rejects(find('a.io/x', { explicit: dir, defaults: [auth] }), /read auth file/);
  });

  it('looks on behind an entry without user and password, and tells of it when there is nothing else', async () => {
    const [broken, whole] = [join(dir, 'no-colon.json'), join(dir, 'whole.json')];
    const auths = { 'a.io': { auth: encode('secret') }, 'c.io': { auth: encode('secret') } };
    await writeFile(broken, JSON.stringify({ credsStore: 'test', auths }));
    await writeFile(whole, JSON.stringify({ auths: { 'c.io': { auth: encode('u:p') } } }));
    assert.equal((await find('a.io/x', { defaults: [broken] }))?.username, 'helper');
    assert.equal((await find('c.io/x', { defaults: [broken, whole] }))?.username, 'u');
    const source = `no credentials: auth file "${broken}", entry "c.io": auth is not base64 of "user:password"`;
    assert.deepEqual(await find('c.io/x', { helpers: ['containers-auth.json', 'test'], defaults: [broken] }), {
      ...anonymous,
      source,
    });
  });

  it('takes an answer of a helper without user and secret for none', async () => {
    const auth = join(dir, 'after-helper.json');
    await writeFile(auth, JSON.stringify({ auths: { 'empty.io': { auth: encode('u:p') } } }));
    const helpers = ['test', 'containers-auth.json'];
    assert.equal((await find('empty.io/x', { helpers, defaults: [auth] }))?.username, 'u');
    assert.deepEqual(await find('empty.io/x', { helpers }), {
      ...anonymous,
      source: 'no credentials: helper docker-credential-test for "empty.io" answered without any',
    });
  });

  it('looks in the usual places', () => {
    assert.deepEqual(defaultAuthFiles({ HOME: '/root' }, 0), [
      '/run/containers/0/auth.json',
      '/root/.config/containers/auth.json',
      '/root/.docker/config.json',
      '/root/.dockercfg',
    ]);
  });
});
