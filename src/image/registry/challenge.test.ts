import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from './challenge.ts';

const plain = (header: string) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

describe('parseChallenges', () => {
  it('reads one, several, quoted and bare values', () => {
    assert.deepEqual(plain('Bearer realm="https://a/token",service="s, x",scope="repository:a/b:pull,push"'), [
      ['bearer', { realm: 'https://a/token', service: 's, x', scope: 'repository:a/b:pull,push' }],
    ]);
    assert.deepEqual(plain('Basic realm=x, Bearer REALM = "y\\"z" , error="e"'), [
      ['basic', { realm: 'x' }],
      ['bearer', { realm: 'y"z', error: 'e' }],
    ]);
    assert.deepEqual(plain('Negotiate, Basic realm="r"'), [
      ['negotiate', {}],
      ['basic', { realm: 'r' }],
    ]);
    assert.deepEqual(parseChallenges(undefined), []);
  });

  it('ends on any input, quickly', () => {
    const unit = fc.constantFrom('a', '"', '\\', '=', ',', ' ', 'Bearer ', 'realm=', '\0', 'é');
    fc.assert(fc.property(fc.string({ unit, maxLength: 200 }), (text) => void parseChallenges(text)));
    const start = performance.now();
    parseChallenges(`Bearer realm="${'\\'.repeat(1e6)}`);
    assert.ok(performance.now() - start < 100);
  });
});
