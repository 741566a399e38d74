import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatReference, parseReference } from './reference.ts';
import { findRule, matchLength, pullSources } from './registries-conf.ts';
import { loadRegistriesConf, parseRegistriesConf } from './registries-file.ts';
import { resolveName } from './short-names.ts';

const digest = `sha256:${'b'.repeat(64)}`;

function sources(toml: string, name: string): readonly string[] {
  const conf = parseRegistriesConf(toml, 'test.conf');
  return pullSources(conf, parseReference(name)).map(
    (source) =>
      `${source.isMirror ? 'mirror ' : ''}${source.insecure ? 'insecure ' : ''}${formatReference(source.reference)}`,
  );
}

describe('pullSources', () => {
  it('follows the example of containers-registries.conf(5)', () => {
    const toml = `
unqualified-search-registries = ["example.com"]
[[registry]]
prefix = "example.com/foo"
insecure = false
blocked = false
location = "internal-registry-for-example.com/bar"
[[registry.mirror]]
location = "example-mirror-0.local/mirror-for-foo"
[[registry.mirror]]
location = "example-mirror-1.local/mirrors/foo"
insecure = true
[[registry]]
location = "registry.com"
[[registry.mirror]]
location = "mirror.registry.com"`;
    assert.deepEqual(sources(toml, 'example.com/foo/image:latest'), [
      'mirror example-mirror-0.local/mirror-for-foo/image:latest',
      'mirror insecure example-mirror-1.local/mirrors/foo/image:latest',
      'internal-registry-for-example.com/bar/image:latest',
    ]);
    assert.deepEqual(sources(toml, 'registry.com/a/b:1'), ['mirror mirror.registry.com/a/b:1', 'registry.com/a/b:1']);
    assert.deepEqual(sources(toml, 'other.com/a:1'), ['other.com/a:1']);
  });

  it('rewrites a whole registry to an insecure local one', () => {
    const toml = '[[registry]]\nprefix = "registry.k8s.io"\nlocation = "127.0.0.1:5000"\ninsecure = true';
    assert.deepEqual(sources(toml, 'registry.k8s.io/pause:3.10.1'), ['insecure 127.0.0.1:5000/pause:3.10.1']);
    assert.deepEqual(sources(toml, `registry.k8s.io/a/b@${digest}`), [`insecure 127.0.0.1:5000/a/b@${digest}`]);
  });

  it('uses a wildcard without location for settings only, and with one for rewriting', () => {
    assert.deepEqual(sources('[[registry]]\nprefix = "*.example.com"\ninsecure = true', 'a.b.example.com/x:1'), [
      'insecure a.b.example.com/x:1',
    ]);
    assert.deepEqual(sources('[[registry]]\nprefix = "*.example.com"\nlocation = "m.local/z"', 'a.example.com/x:1'), [
      'm.local/z/x:1',
    ]);
    assert.deepEqual(sources('[[registry]]\nprefix = "*.example.com"\ninsecure = true', 'example.com/x:1'), [
      'example.com/x:1',
    ]);
  });

  it('chooses mirrors by the kind of reference', () => {
    const toml = (extra: string) => `[[registry]]\nlocation = "r.io"\n${extra}`;
    const digestOnly = toml('mirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.io"');
    assert.equal(sources(digestOnly, 'r.io/a:1').length, 1);
    assert.equal(sources(digestOnly, `r.io/a@${digest}`).length, 2);
    const each = toml(
      '[[registry.mirror]]\nlocation = "d.io"\npull-from-mirror = "digest-only"\n[[registry.mirror]]\nlocation = "t.io"\npull-from-mirror = "tag-only"',
    );
    assert.deepEqual(sources(each, 'r.io/a:1'), ['mirror t.io/a:1', 'r.io/a:1']);
    assert.deepEqual(sources(each, `r.io/a@${digest}`), [`mirror d.io/a@${digest}`, `r.io/a@${digest}`]);
  });

  it('refuses a blocked registry and names the files', () => {
    const toml = '[[registry]]\nlocation = "r.io"\nblocked = true';
    assert.throws(() => sources(toml, 'r.io/a:1'), /registry r\.io is blocked in test\.conf/);
  });

  it('refuses a rewrite that is no complete reference', () => {
    assert.throws(
      () => sources('[[registry]]\nprefix = "r.io"\nlocation = "mirror"', 'r.io/a:1'),
      /not a complete reference/,
    );
  });
});

describe('findRule', () => {
  it('takes the longest prefix that covers whole parts', () => {
    const component = fc.stringMatching(/^[a-c]{1,2}$/);
    const path = fc.array(component, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(path, fc.array(path, { maxLength: 6 }), (name, prefixes) => {
        const toml = [...new Set(prefixes.map((parts) => `r.io/${parts.join('/')}`))]
          .map((prefix) => `[[registry]]\nlocation = "${prefix}"`)
          .join('\n');
        const found = findRule(parseRegistriesConf(toml, 'f'), parseReference(`r.io/${name.join('/')}:t`));
        const covering = prefixes.filter(
          (parts) => parts.length <= name.length && parts.every((part, index) => part === name[index]),
        );
        const longest = covering.toSorted((a, b) => b.length - a.length)[0];
        assert.equal(found?.prefix, longest === undefined ? undefined : `r.io/${longest.join('/')}`);
      }),
    );
  });

  it('matches tags and digests exactly', () => {
    assert.equal(matchLength('r.io/a:tag', 'r.io/a:tag'), 10);
    assert.equal(matchLength('r.io/a:tag2', 'r.io/a:tag'), 0);
    assert.equal(matchLength(`r.io/a@${digest}`, 'r.io/a'), 6);
    assert.equal(matchLength('r.io.evil/a', 'r.io'), 0);
    assert.equal(matchLength('evil/x.example.com/a', '*.example.com'), 0);
  });
});

describe('parseRegistriesConf', () => {
  const bad: readonly (readonly [string, RegExp])[] = [
    ['x = ', /test\.conf":1/],
    ['[[registry]]\ninsecure = true', /both location and prefix are unset/],
    ['[[registry]]\nprefix = "a.io"', /location is unset/],
    ['[[registry]]\nlocation = "https://a.io"', /URI schemes/],
    ['[[registry]]\nlocation = "a.io"\ninsecure = "yes"', /registry\[0\]\.insecure: expected true or false/],
    ['[[registry]]\nlocation = "a.io"\n[[registry]]\nlocation = "a.io"\ninsecure = true', /conflicting 'insecure'/],
    ['[[registry]]\nprefix = "*.a.io/x"', /wildcard/],
    ['short-name-mode = "maybe"', /invalid short-name mode/],
    ['[aliases]\n"a.io/x" = "b.io/x"', /not a short name/],
    ['[aliases]\n"x" = "b.io/x:1"', /without tag or digest/],
    [
      '[[registry]]\nlocation = "a.io"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "b.io"\npull-from-mirror = "all"',
      /at the same time/,
    ],
    ['[[registry]]\nlocation = "a.io"\n[registries.search]\nregistries = ["b.io"]', /mixing/],
  ];
  for (const [toml, want] of bad) {
    it(`refuses ${JSON.stringify(toml.slice(0, 50))}`, () =>
      assert.throws(() => parseRegistriesConf(toml, 'test.conf'), want));
  }

  it('reads the version 1 format', () => {
    const conf = parseRegistriesConf(
      "[registries.search]\nregistries = ['a.io']\n[registries.insecure]\nregistries = ['b.io']\n[registries.block]\nregistries = ['c.io']",
      'f',
    );
    assert.deepEqual(conf.searchRegistries, ['a.io']);
    assert.deepEqual(
      conf.rules.map((rule) => [rule.prefix, rule.insecure, rule.blocked]),
      [
        ['b.io', true, false],
        ['c.io', false, true],
      ],
    );
  });
});

describe('unknown keys of registries.conf', () => {
  const warningsOf = (toml: string) => parseRegistriesConf(toml, '/etc/r.conf').warnings;

  it('are ignored with a warning that names file, key and the nearest known key', () => {
    const toml = `
unqualified-search-registry = ["a.test"]
[aliases]
"App" = "a.test/app"
[engine]
x = 1
[[registry]]
location = "a.test"
[[registry]]
location = "b.test"
insecur = true
[[registry.mirror]]
location = "m.test"
pull-from-mirrors = "all"`;
    assert.deepEqual(warningsOf(toml), [
      '/etc/r.conf: unknown key "unqualified-search-registry" is ignored; did you mean "unqualified-search-registries"?',
      '/etc/r.conf: unknown key "engine" is ignored',
      '/etc/r.conf: unknown key "registry[1].insecur" is ignored; did you mean "insecure"?',
      '/etc/r.conf: unknown key "registry[1].mirror[0].pull-from-mirrors" is ignored; did you mean "pull-from-mirror"?',
    ]);
    assert.deepEqual(warningsOf('[registries.search]\nregistries = ["a.test"]\n[registries.blok]\nregistries = []'), [
      '/etc/r.conf: unknown key "registries.blok" is ignored; did you mean "block"?',
    ]);
  });

  it('are none of those that the manual has, also in other letter case: they count then', () => {
    const toml = `
unqualified-search-registries = ["a.test"]
credential-helpers = ["x"]
short-name-mode = "disabled"
additional-layer-store-auth-helper = "y"
[[registry]]
prefix = "b.test"
location = "b.test"
mirror-by-digest-only = false
insecure = false
Blocked = true
[[registry.mirror]]
location = "m.test"
insecure = true
pull-from-mirror = "all"`;
    assert.deepEqual(warningsOf(toml), []);
    assert.throws(() => sources(toml, 'b.test/x:1'), /registry b\.test is blocked/);
  });
});

describe('loadRegistriesConf', () => {
  it('merges drop-ins in order: lists are replaced, aliases and registries by name', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'registries-'));
    try {
      await mkdir(join(dir, 'd'));
      await writeFile(
        join(dir, 'main'),
        'unqualified-search-registries = ["a.io"]\n[[registry]]\nlocation = "r.io"\n[aliases]\nx = "a.io/x"\ny = "a.io/y"',
      );
      await writeFile(join(dir, 'd/10.conf'), 'unqualified-search-registries = ["b.io", "c.io"]\n[aliases]\nx = ""');
      await writeFile(
        join(dir, 'd/20.conf'),
        'short-name-mode = "disabled"\n[[registry]]\nlocation = "r.io"\ninsecure = true',
      );
      await writeFile(join(dir, 'd/ignored.txt'), 'x = [');
      const conf = await loadRegistriesConf({
        file: join(dir, 'main'),
        dropInDirs: [join(dir, 'd'), join(dir, 'none')],
        aliasFile: join(dir, 'none'),
      });
      assert.deepEqual(conf.searchRegistries, ['b.io', 'c.io']);
      assert.deepEqual([...conf.aliases], [['y', 'a.io/y']]);
      assert.equal(conf.shortNameMode, 'disabled');
      assert.deepEqual(
        conf.rules.map((rule) => rule.insecure),
        [true],
      );
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});

describe('resolveName', () => {
  const conf = parseRegistriesConf(
    'unqualified-search-registries = ["a.io", "docker.io"]\n[aliases]\nbusybox = "quay.io/b/busybox"',
    'f',
  );
  const names = (text: string, mode: 'enforcing' | 'permissive' | 'disabled' | undefined = 'disabled') =>
    resolveName(conf, mode, text).map(formatReference);

  it('keeps a complete name and adds latest', () => {
    assert.deepEqual(names('r.io/a'), ['r.io/a:latest']);
    assert.deepEqual(names(`r.io/a:1@${digest}`), [`r.io/a@${digest}`]);
  });
  it('takes the alias, with the tag or digest given', () => {
    assert.deepEqual(names('busybox:1'), ['quay.io/b/busybox:1']);
    assert.deepEqual(names(`busybox:1@${digest}`), [`quay.io/b/busybox@${digest}`]);
  });
  it('tries the search registries in order', () =>
    assert.deepEqual(names('nginx'), ['a.io/nginx:latest', 'docker.io/library/nginx:latest']));
  it('refuses an ambiguous name when enforcing', () => {
    assert.throws(() => names('nginx', 'enforcing'), {
      message: 'short name mode is enforcing, but image name nginx returns ambiguous list',
    });
  });
  it('refuses a short name without search registries', () => {
    assert.throws(
      () => resolveName(parseRegistriesConf('', 'f'), undefined, 'nginx'),
      /did not resolve to an alias and no unqualified-search registries/,
    );
  });
});
