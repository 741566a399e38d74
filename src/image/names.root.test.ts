import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import { defaultConfig } from '../config/config.ts';
import { createImages } from './create-images.ts';
import { parseReference } from './reference.ts';
import { registriesPaths } from './registries-file.ts';
import { startFakeRegistry } from './testing/fake-registry.ts';
import type { FakeRegistry } from './testing/fake-registry.ts';
import { createFakeStore } from './testing/fake-store.ts';

/** The same files and the same name, given to podman and to us: both must ask the same places, in the same order. */
const folder = mkdtempSync(join(tmpdir(), 'names-'));
const digest = `sha256:${'a'.repeat(64)}`;
let registry: FakeRegistry;

before(async () => {
  registry = await startFakeRegistry();
});
after(async () => {
  await registry[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

interface Row {
  readonly what: string;
  /** Content of registries.conf; HOST is the registry that answers 404 to everything. */
  readonly toml: string;
  /** Files of registries.conf.d, by name. */
  readonly dropIns?: Readonly<Record<string, string>>;
  /** Files below ~/.config/containers, by path. */
  readonly home?: Readonly<Record<string, string>>;
  /** What podman recorded when somebody chose at a terminal. */
  readonly aliasCache?: string;
  readonly names: readonly string[];
  /** Asked for, name after name; none when it is refused before. */
  readonly asked: readonly string[];
}

const at = (prefix: string, path: string, more = ''): string =>
  `[[registry]]\nprefix = "${prefix}"\nlocation = "HOST/${path}"\ninsecure = true\n${more}`;
const mirror = (path: string, more = ''): string =>
  `[[registry.mirror]]\nlocation = "HOST/${path}"\ninsecure = true\n${more}\n`;
const two = `unqualified-search-registries = ["one.test", "two.test"]\n`;
const both = `${at('one.test', 'one')}${at('two.test', 'two')}`;

const rows: readonly Row[] = [
  {
    what: 'an alias, with tag and with digest',
    toml: `${two}[aliases]\n"app" = "one.test/x/app"\n"user/app" = "two.test/y"\n${both}`,
    names: ['app', 'app:1', `app@${digest}`, 'user/app:2'],
    asked: ['one/x/app latest', 'one/x/app 1', `one/x/app ${digest}`, 'two/y 2'],
  },
  {
    what: 'the search list, one after another',
    toml: `${two}short-name-mode = "disabled"\n${both}`,
    names: ['app', 'user/app:1'],
    asked: ['one/app latest', 'two/app latest', 'one/user/app 1', 'two/user/app 1'],
  },
  {
    what: 'permissive mode without a terminal',
    toml: `${two}short-name-mode = "permissive"\n${both}`,
    names: ['app'],
    asked: ['one/app latest', 'two/app latest'],
  },
  {
    what: 'enforcing mode and two candidates',
    toml: `${two}short-name-mode = "enforcing"\n${both}`,
    names: ['app'],
    asked: [],
  },
  {
    what: 'enforcing mode and one candidate',
    toml: `unqualified-search-registries = ["one.test"]\nshort-name-mode = "enforcing"\n${both}`,
    names: ['app'],
    asked: ['one/app latest'],
  },
  { what: 'no search list', toml: both, names: ['app'], asked: [] },
  {
    what: 'an alias of the cache',
    toml: `${two}short-name-mode = "enforcing"\n${both}`,
    aliasCache: '[aliases]\n"app" = "two.test/cached"\n',
    names: ['app:1'],
    asked: ['two/cached 1'],
  },
  {
    what: 'docker.io and its library',
    toml: `unqualified-search-registries = ["docker.io"]\n${at('docker.io', 'hub')}`,
    names: ['busybox', 'docker.io/busybox:1', 'index.docker.io/library/busybox', 'docker.io/user/app'],
    asked: ['hub/library/busybox latest', 'hub/library/busybox 1', 'hub/library/busybox latest', 'hub/user/app latest'],
  },
  {
    what: 'mirrors by kind of reference',
    toml: at(
      'one.test',
      'one',
      mirror('all') +
        mirror('digests', 'pull-from-mirror = "digest-only"') +
        mirror('tags', 'pull-from-mirror = "tag-only"'),
    ),
    names: ['one.test/a:1', `one.test/a@${digest}`, `one.test/a:1@${digest}`],
    asked: [
      ...['all/a 1', 'tags/a 1', 'one/a 1'],
      ...['all/a', 'digests/a', 'one/a', 'all/a', 'digests/a', 'one/a'].map((path) => `${path} ${digest}`),
    ],
  },
  {
    what: 'mirror-by-digest-only',
    toml: at('one.test', 'one', `mirror-by-digest-only = true\n${mirror('m')}`),
    names: ['one.test/a:1', `one.test/a@${digest}`],
    asked: ['one/a 1', `m/a ${digest}`, `one/a ${digest}`],
  },
  {
    what: 'the longest prefix, at whole parts',
    toml: `${at('one.test', 'all')}${at('one.test/a', 'a')}${at('one.test/a/b:tag', 'tag')}`,
    names: ['one.test/a/b:1', 'one.test/ab:1', 'one.test/a/b:tag', 'one.test/c:1'],
    asked: ['a/b 1', 'all/ab 1', 'a/b tag', 'all/c 1'],
  },
  {
    what: 'wildcards of hosts',
    toml: `${at('*.test', 'any')}${at('*.one.test', 'one')}${at('b.one.test', 'b')}${at('bcd.one.test', 'c')}`,
    names: ['x.test/a:1', 'x.one.test/a:1', 'b.one.test/a:1', 'y.x.one.test/a:1', 'bcd.one.test/a:1'],
    // The wildcard is as long as the host's own prefix and comes before it.
    asked: ['any/a 1', 'one/a 1', 'one/a 1', 'one/a 1', 'c/a 1'],
  },
  {
    what: 'what is blocked',
    toml: `${at('one.test', 'one')}[[registry]]\nlocation = "one.test/no"\nblocked = true\n`,
    names: ['one.test/no/a:1', 'one.test/a:1'],
    asked: ['one/a 1'],
  },
  {
    what: 'drop-ins: later ones win, lists are replaced, aliases are merged and deleted',
    toml: `${two}short-name-mode = "enforcing"\n[aliases]\n"kept" = "one.test/kept"\n"gone" = "one.test/gone"\n${both}`,
    dropIns: {
      '10-a.conf': `unqualified-search-registries = ["two.test"]\n[aliases]\n"gone" = ""\n${at('one.test', 'ten')}`,
      '20-b.conf': at('one.test', 'twenty', mirror('m')),
      'ignored.txt': 'x = [',
    },
    names: ['kept', 'gone', 'one.test/a:1'],
    asked: ['m/kept latest', 'twenty/kept latest', 'two/gone latest', 'm/a 1', 'twenty/a 1'],
  },
  {
    what: "the user's file, which stands for all of the system's",
    toml: `${two}${both}`,
    dropIns: { 'a.conf': at('one.test', 'etc') },
    home: {
      'registries.conf': `unqualified-search-registries = ["one.test"]\n${at('one.test', 'own')}`,
      'registries.conf.d/a.conf': at('two.test', 'own-two'),
    },
    names: ['app', 'one.test/a:1', 'two.test/b:1'],
    asked: ['own/app latest', 'own/a 1', 'own-two/b 1'],
  },
  {
    what: "the user's drop-ins, after the system's",
    toml: `${two}${both}`,
    dropIns: { 'z.conf': at('one.test', 'etc') },
    home: { 'registries.conf.d/a.conf': at('one.test', 'own') },
    names: ['one.test/a:1', 'two.test/b:1'],
    asked: ['own/a 1', 'two/b 1'],
  },
  {
    what: 'localhost, which is no short name',
    toml: `${two}${at('localhost', 'local')}`,
    names: ['localhost/a'],
    asked: ['local/a latest'],
  },
];

describe('names and registries, as podman reads them', () => {
  for (const row of rows) {
    it(row.what, async () => {
      const dir = mkdtempSync(join(folder, 'etc-'));
      const text = (content: string): string => content.replaceAll('HOST', registry.host);
      mkdirSync(join(dir, 'registries.conf.d'));
      writeFileSync(join(dir, 'registries.conf'), text(row.toml));
      writeFileSync(join(dir, 'policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
      for (const [name, content] of Object.entries(row.dropIns ?? {}))
        writeFileSync(join(dir, 'registries.conf.d', name), text(content));
      mkdirSync(join(dir, 'home/.config/containers/registries.conf.d'), { recursive: true });
      for (const [name, content] of Object.entries(row.home ?? {}))
        writeFileSync(join(dir, 'home/.config/containers', name), text(content));
      mkdirSync(join(dir, 'cache'));
      writeFileSync(join(dir, 'cache/short-name-aliases.conf'), row.aliasCache ?? '');
      const ours = await askedBy(() => pullAll(dir, row.names));
      const podman = await askedBy(() => podmanPullAll(dir, row.names));
      assert.deepEqual({ ours, podman }, { ours: row.asked, podman: row.asked });
    });
  }
});

/** `repository tag` of each manifest that was asked for meanwhile. */
async function askedBy(act: () => Promise<void>): Promise<readonly string[]> {
  const before = registry.requests.length;
  await act();
  return registry.requests.slice(before).flatMap(({ line }) => {
    const match = /^GET \/v2\/(.+)\/manifests\/(.+)$/.exec(line);
    return match === null ? [] : [`${match[1]} ${match[2]}`];
  });
}

async function pullAll(dir: string, names: readonly string[]): Promise<void> {
  const paths = registriesPaths({ HOME: join(dir, 'home') });
  const inFolder = (path: string): string => path.replace(/^\/etc\/containers/, dir);
  await using images = await createImages({
    store: createFakeStore(dir),
    log: silentLog,
    config: { image: { ...defaultConfig().image, namespacedAuthDir: '', signaturePolicyDir: '', shortNameMode: '' } },
    places: {
      registries: {
        ...paths,
        file: inFolder(paths.file),
        dropInDirs: paths.dropInDirs.map(inFolder),
        aliasFile: join(dir, 'cache/short-name-aliases.conf'),
      },
      policyFiles: [join(dir, 'policy.json')],
      authFiles: [],
      certificateDirs: [],
    },
  });
  for (const reference of names) {
    const call = new Call({ name: 'PullImage', id: 't', log: silentLog });
    await assert.rejects(images.pull(call, { reference, namespace: '', cgroupParent: '', credentials: undefined }));
  }
}

/** In a mount namespace where the folder is /etc/containers. Every pull fails, as the registry has nothing. */
function podmanPullAll(dir: string, names: readonly string[]): Promise<void> {
  const script = `
    mkdir -p /var/cache/containers
    mount --bind "$1" /etc/containers
    mount --bind "$1/cache" /var/cache/containers
    export HOME="$1/home"
    root=$2; shift 2
    for name in "$@"; do
      ! podman --root "$root/root" --runroot "$root/run" --cgroup-manager cgroupfs pull --quiet "$name" </dev/null 2>/dev/null
    done`;
  const child = spawn('unshare', ['--mount', 'sh', '-ec', script, 'sh', dir, mkdtempSync('/run/names-'), ...names], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`podman pulled something: ${code}`))));
  });
}

describe('the grammar of references, as skopeo reads it', () => {
  const names = [
    ...[
      'a',
      'a:1',
      'A',
      'a/B',
      'B/a',
      'a.b/c',
      'a.b/C',
      'a.b:5000/c',
      'a.b:/c',
      'a.b:port/c',
      '[::1]:5000/a',
      '[::1]/a',
      '[::g]/a',
    ],
    ...[
      'a/',
      '/a',
      'a//b',
      'a__b',
      'a___b',
      'a--b',
      'a.-b',
      'a_',
      '-a',
      'a.',
      '.a/b',
      'a-.b/c',
      'a:',
      'a:.x',
      'a:-x',
      'a:_x',
    ],
    ...[
      `a:${'t'.repeat(128)}`,
      `a:${'t'.repeat(129)}`,
      `a.b/${'x'.repeat(251)}`,
      `a.b/${'x'.repeat(256)}`,
      'localhost',
      'localhost/a',
    ],
    ...[
      `a@${digest}`,
      'a@sha256:abc',
      `a@sha256:${'A'.repeat(64)}`,
      `a@sha512:${'a'.repeat(128)}`,
      `a@sha384:${'a'.repeat(96)}`,
    ],
    ...[
      `a@md5:${'a'.repeat(32)}`,
      'a@',
      'a.b/c d',
      'a b',
      'ä',
      'a:ä',
      '0/a',
      '0.0/a',
      'a'.repeat(64),
      'a.b/../c',
      'a..b/c',
      'a,b',
    ],
  ];

  /** Taken by the grammar of today, which Debian 12's skopeo is older than. */
  const newer = ['B/a', '[::1]:5000/a', '[::1]/a'];

  it('accepts and refuses the same', async () => {
    const theirs = await Promise.all(names.map((name) => skopeoAccepts(name)));
    const ours = names.map((name) => accepts(name));
    const differing = names.filter((_, index) => ours[index] !== theirs[index]);
    assert.deepEqual(
      differing.filter((name) => !newer.includes(name)).map((name) => [name, accepts(name)]),
      [],
    );
    assert.ok(newer.every(accepts) && ours.includes(false));
  });
});

function accepts(name: string): boolean {
  try {
    parseReference(name);
    return true;
  } catch {
    return false;
  }
}

/** Anything but a word about the reference is a word about the network, which is not there. */
async function skopeoAccepts(name: string): Promise<boolean> {
  const child = spawn('skopeo', ['--command-timeout', '10s', 'inspect', '--raw', `docker://${name}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await new Promise((resolve) => child.once('close', resolve));
  return !/invalid reference|repository name|unsupported digest|invalid checksum|64-byte|must be lowercase/.test(text);
}
