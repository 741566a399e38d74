import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { canonicalReference, formatReference, isShortName, parseDigest, parseReference } from './reference.ts';

const hex = 'a'.repeat(64);

describe('parseReference', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['busybox', 'docker.io/library/busybox'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36'],
    ['library/busybox', 'docker.io/library/busybox'],
    ['docker.io/busybox', 'docker.io/library/busybox'],
    ['index.docker.io/busybox', 'docker.io/library/busybox'],
    ['user/app', 'docker.io/user/app'],
    ['localhost/app:1', 'localhost/app:1'],
    ['localhost:5000/app', 'localhost:5000/app'],
    ['[::1]:5000/app', '[::1]:5000/app'],
    ['registry.k8s.io/pause:3.10.1', 'registry.k8s.io/pause:3.10.1'],
    [`a.b/c/d__e.f-g@sha256:${hex}`, `a.b/c/d__e.f-g@sha256:${hex}`],
    [`a.b/c:t@sha256:${hex}`, `a.b/c:t@sha256:${hex}`],
    ['UPPER/app', 'UPPER/app'],
    ['sha256:abc', 'docker.io/library/sha256:abc'],
  ];
  for (const [text, want] of cases) {
    it(`reads ${text}`, () => assert.equal(formatReference(parseReference(text)), want));
  }

  const bad = [
    '',
    '/',
    ':',
    '@',
    'a b',
    'a/',
    '/a',
    'a//b',
    'Busybox',
    'a.b/C',
    'a:',
    'a@',
    'a@sha256:abc',
    `a@sha257:${hex}`,
    `a@sha256:${hex.toUpperCase()}`,
    hex,
    'a:..',
    `a:${'t'.repeat(129)}`,
    'a_',
    '-a',
    'a___b',
    'a.b/../c',
    'a.b/c@sha256:/../../etc',
    'https://a.b/c',
    'a.b:port/c',
    'a.b/c\0',
    'a.b/c\n',
    `a.b/${'x'.repeat(256)}`,
    'x'.repeat(5000),
  ];
  for (const text of bad) {
    it(`refuses ${JSON.stringify(text.slice(0, 40))}`, () =>
      assert.throws(() => parseReference(text), { kind: 'invalid' }));
  }

  it('says why an upper-case name is refused', () => {
    assert.throws(() => parseReference('a.b/App'), /repository name \(App\) must be lowercase/);
  });

  it('reads back what it formats', () => {
    const component = fc.stringMatching(/^[a-z0-9]{1,8}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,8}){0,2}$/);
    const path = fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
    const host = fc.stringMatching(/^[a-z0-9]{1,8}(?:-[a-z0-9]{1,4})?(?:\.[a-z0-9]{1,5}){1,3}(?::[0-9]{1,5})?$/);
    const tag = fc.option(fc.stringMatching(/^\w[\w.-]{0,127}$/), { nil: undefined });
    const digest = fc.option(
      fc.stringMatching(/^[a-f0-9]{64}$/).map((text) => `sha256:${text}`),
      { nil: undefined },
    );
    fc.assert(
      fc.property(fc.record({ domain: host, path, tag, digest }, { noNullPrototype: true }), (reference) => {
        assert.deepEqual(parseReference(formatReference(reference)), reference);
      }),
    );
  });

  it('never answers with something else than a reference or an invalid error, and canonical forms are stable', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', 'B', '0', '.', '/', ':', '@', '-', '_', 'sha256:', hex, '\n') }),
        (text) => {
          let reference;
          try {
            reference = parseReference(text);
          } catch (error) {
            assert.equal((error as { kind?: string }).kind, 'invalid');
            return;
          }
          const canonical = canonicalReference(reference);
          assert.deepEqual(parseReference(formatReference(canonical)), canonical);
        },
      ),
    );
  });
});

describe('isShortName', () => {
  for (const text of ['busybox', 'busybox:1', 'user/app:1', `app@sha256:${hex}`]) {
    it(`holds for ${text.slice(0, 20)}`, () => assert.equal(isShortName(text), true));
  }
  for (const text of ['localhost/app', 'a.b/app', 'host:5000/app', 'docker.io/app']) {
    it(`does not hold for ${text}`, () => assert.equal(isShortName(text), false));
  }
});

describe('parseDigest', () => {
  it('CVE-2024-3727: refuses digests with path parts, other algorithms and wrong lengths', () => {
    for (const text of [
      'sha256:../../../etc/passwd',
      'md5:d41d8cd98f00b204e9800998ecf8427e',
      `sha256:${hex}a`,
      `sha512:${hex}`,
      '',
      ':',
      hex,
      `SHA256:${hex}`,
    ]) {
      assert.throws(() => parseDigest(text), { kind: 'invalid' }, text);
    }
  });
});
