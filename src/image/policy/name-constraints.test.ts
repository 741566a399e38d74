import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { DerElement } from './der.ts';
import { constraintProblem, createComparisonBudget, nameTags, readNameConstraints } from './name-constraints.ts';

type Kind = keyof typeof nameTags;

function name(kind: Kind, value: string): DerElement {
  return { tag: nameTags[kind], content: kind === 'ip' ? Buffer.from(value, 'hex') : Buffer.from(value, 'latin1') };
}

function problem(names: DerElement[], permitted: DerElement[], excluded: DerElement[]): string | undefined {
  return constraintProblem(names, { permitted, excluded, unsupportedKind: undefined }, createComparisonBudget());
}

/** An extension that permits this one name. */
function permitting({ tag, content }: DerElement): Buffer {
  const element = (outer: number, inner: Buffer) => Buffer.concat([Buffer.from([outer, inner.length]), inner]);
  return element(0x30, element(0xa0, element(0x30, element(tag, content))));
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
      const asPermitted = problem([given], [base], []);
      const asExcluded = problem([given], [], [base]);
      assert.deepEqual([asPermitted === undefined, asExcluded !== undefined], [permitted, excluded]);
    });
  }

  it('is about each name, and about names of the kinds that it names', () => {
    const permitted = [name('email', 'a.com'), name('email', 'b.com')];
    const excluded = [name('email', 'evil.a.com'), name('dns', 'c.com')];
    const check = (...names: DerElement[]) => problem(names, permitted, excluded);
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
        problem([name(kind, value)], [], [name(kind, 'example.com')]);
  });

  it('makes no more comparisons than the budget has, however many names meet however many constraints', () => {
    const many = Array.from({ length: 500 }, (_, at) => name('dns', `${at}.com`));
    const excluded = Array.from({ length: 500 }, () => name('dns', 'example.org'));
    const constraints = { permitted: [], excluded, unsupportedKind: undefined };
    const budget = createComparisonBudget();
    assert.equal(constraintProblem([name('email', 'x@a.com'), ...many], constraints, budget), undefined);
    assert.equal(budget.left, 0);
    assert.throws(() => constraintProblem(many.slice(0, 1), constraints, budget), {
      kind: 'resource-exhausted',
      message: 'check certificate: too many name constraints for its names',
    });
    const [lots, bases] = [many, excluded].map((list) => Array.from({ length: 400 }, () => list).flat());
    assert.throws(() => problem(lots ?? [], [], bases ?? []), /too many name constraints/);
  });

  it('reads a name once, not once for each constraint', { timeout: 10_000 }, () => {
    const excluded = Array.from({ length: 200_000 }, () => name('uri', 'example.org'));
    assert.match(problem([name('uri', `https://a.com/${'a'.repeat(1_000_000)}`)], [], excluded) ?? 'fine', /^fine$/);
  });
});

const wellFormed: readonly (readonly [Kind, string])[] = [
  ...(['email', 'dns', 'uri'] as const).flatMap((kind) =>
    ['', '.', 'com', '.example.com', 'a_b.*.com'].map((base) => [kind, base] as const),
  ),
  ['email', "o'neil+x.y@example.com"],
  ['dns', '10.0.0.1'],
  ['ip', '0a000000ff800000'],
  ['ip', '0000000000000000'],
  ['ip', `${'20'.repeat(16)}${'ff'.repeat(16)}`],
];
const malformed: readonly (readonly [Kind, string])[] = [
  ...(['email', 'dns', 'uri'] as const).flatMap((kind) =>
    ['example.com.', '..com', 'a..com', 'a b', 'a\0', '\xe4.com'].map((base) => [kind, base] as const),
  ),
  ['email', '@example.com'],
  ['email', 'a@'],
  ['email', 'a@example.com.'],
  ['email', '.a@example.com'],
  ['email', 'a b@example.com'],
  ['uri', '10.0.0.1'],
  ['uri', '::1'],
  ['ip', '0a000000ff00ff00'],
  ['ip', '0a0000007f000000'],
];

describe('readNameConstraints', () => {
  it('takes what is well-formed, and refuses what is not', () => {
    for (const [kind, base] of wellFormed)
      assert.deepEqual(readNameConstraints(permitting(name(kind, base))).permitted, [name(kind, base)], base);
    for (const [kind, base] of malformed)
      assert.throws(() => readNameConstraints(permitting(name(kind, base))), /malformed name|has the mask/, base);
    const long = Buffer.from(`3082014da08201493082014581820141${'61'.repeat(321)}`, 'hex');
    assert.throws(() => readNameConstraints(long), /malformed name constraint/);
  });

  it('leaves out names of a kind that is not compared, and tells which', () => {
    const directory = { tag: 0xa4, content: Buffer.from('3000', 'hex') };
    assert.deepEqual(readNameConstraints(permitting(directory)), { permitted: [], excluded: [], unsupportedKind: 4 });
    assert.equal(readNameConstraints(permitting(name('dns', 'com'))).unsupportedKind, undefined);
  });

  it('refuses what it does not know, and throws only clear errors', () => {
    for (const [hex, want] of [
      ['3000', /neither permitted nor excluded/],
      ['3004a0023000', /not one name/],
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
