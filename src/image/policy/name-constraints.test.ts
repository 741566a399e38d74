import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { DerElement } from './der.ts';
import { constraintProblem, nameTags, readNameConstraints } from './name-constraints.ts';

type Kind = keyof typeof nameTags;

function name(kind: Kind, value: string): DerElement {
  return { tag: nameTags[kind], content: kind === 'ip' ? Buffer.from(value, 'hex') : Buffer.from(value, 'latin1') };
}

/** Of one constraint and one name of the same kind: is it covered as a permitted one, and as an excluded one? */
const rows: readonly (readonly [Kind, constraint: string, value: string, permitted: boolean, excluded?: boolean])[] = [
  ['email', 'example.com', 'a@example.com', true],
  ['email', 'example.com', 'a@EXAMPLE.com', true],
  ['email', 'example.com', 'a@b.example.com', true],
  ['email', 'example.com', 'a@notexample.com', false],
  ['email', '.example.com', 'a@example.com', false],
  ['email', '.example.com', 'a@b.example.com', true],
  ['email', 'a@example.com', 'a@Example.com', true],
  ['email', 'a@example.com', 'A@example.com', false],
  ['email', 'a@example.com', 'b@example.com', false],
  ['email', 'example.com', 'evil@example.org@example.com', true],
  ['email', 'example.com', 'no address', false, true],
  ['email', 'a@example.com', 'no address', false, true],
  ['email', '', 'a@example.com', true],
  ['dns', 'example.com', 'example.com', true],
  ['dns', 'example.com', 'a.b.example.com', true],
  ['dns', 'example.com', 'com', false],
  ['dns', '.example.com', 'example.com', false],
  ['dns', 'a.example.com', '*.example.com', false, true],
  ['dns', 'a.b.example.com', '*.example.com', false],
  ['dns', 'example.com', '*.example.com', true],
  ['dns', 'example.com', 'exa mple.com', false, true],
  ['dns', 'example.com', 'example.com\0.org', false, true],
  ['dns', 'example.com', `${'a'.repeat(300)}.com`, false, true],
  ['uri', 'example.com', 'https://a.example.com:8080/x?y#z', true],
  ['uri', 'example.com', 'https://example.com@evil.org/', false],
  ['uri', 'example.com', 'https://10.0.0.1/', false, true],
  ['uri', 'example.com', 'urn:example.com', false, true],
  ['uri', 'example.com', 'no uri', false, true],
  ['ip', '0a000000ff000000', '0a010203', true],
  ['ip', '0a000000ff000000', '0b010203', false],
  ['ip', '0a000000ff000000', '0a010203'.repeat(4), false],
  ['ip', '0a000000ff000000', '0a', false, true],
];

describe('constraintProblem', () => {
  for (const [kind, constraint, value, permitted, excluded = permitted] of rows) {
    it(`${kind} "${constraint}" ${permitted ? 'permits' : 'does not permit'} "${value.slice(0, 40)}"`, () => {
      const [base, given] = [name(kind, constraint), name(kind, value)];
      const asPermitted = constraintProblem([given], { permitted: [base], excluded: [] });
      const asExcluded = constraintProblem([given], { permitted: [], excluded: [base] });
      assert.deepEqual([asPermitted === undefined, asExcluded !== undefined], [permitted, excluded]);
    });
  }

  it('is about each name, and about names of the kinds that it names', () => {
    const permitted = [name('email', 'a.com'), name('email', 'b.com')];
    const constraints = { permitted, excluded: [name('email', 'evil.a.com'), name('dns', 'c.com')] };
    const check = (...names: DerElement[]) => constraintProblem(names, constraints);
    assert.equal(check(), undefined);
    assert.equal(check(name('email', 'x@a.com'), name('email', 'x@b.com'), name('dns', 'd.com')), undefined);
    assert.equal(check(name('email', 'x@a.com'), name('email', 'x@c.com')), 'does not permit the name "x@c.com"');
    assert.equal(check(name('email', 'x@evil.a.com')), 'excludes the name "x@evil.a.com"');
    assert.equal(check(name('dns', 'a.c.com')), 'excludes the name "a.c.com"');
  });

  it('ends quickly for long names', { timeout: 10_000 }, () => {
    const long = 'a'.repeat(1_000_000);
    for (const value of [`${long}!`, `${'a.'.repeat(500_000)}!`, `x@${long}!`, '@'.repeat(1_000_000)])
      for (const kind of ['email', 'dns', 'uri'] as const)
        constraintProblem([name(kind, value)], { permitted: [], excluded: [name(kind, 'example.com')] });
  });
});

describe('readNameConstraints', () => {
  it('refuses what it does not know, and throws only clear errors', () => {
    for (const [hex, want] of [
      ['3000', /neither permitted nor excluded/],
      ['3004a0023000', /not one name/],
      ['3006a00430028800', /kind 8 are not supported/],
      ['3006a00430028700', /no range of addresses/],
      ['3009a00730058101618000', /not one name/],
      ['300aa100a000a000a000a000', /neither/],
    ] as const)
      assert.throws(() => readNameConstraints(Buffer.from(hex, 'hex')), want);
    const { permitted, excluded } = readNameConstraints(Buffer.from('3007a10530038101' + '61', 'hex'));
    assert.deepEqual([permitted, excluded[0]?.content.toString()], [[], 'a']);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          readNameConstraints(Buffer.from(bytes));
        } catch (error) {
          assert.ok(error instanceof Error && !(error instanceof TypeError) && !(error instanceof RangeError));
        }
      }),
    );
  });
});
