import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readDer } from './der.ts';
import { signatureProblem } from './signature-algorithm.ts';

const sha256 = '300d06096086480165030402010500';
const sha1 = '300906052b0e03021a0500';
const rsaPss = '06092a864886f70d01010a';

function der(tag: number, ...parts: readonly string[]): string {
  const content = Buffer.from(parts.join(''), 'hex');
  return Buffer.concat([Buffer.from([tag, content.length]), content]).toString('hex');
}

const mask = (...hash: readonly string[]): string => der(0xa1, der(0x30, '06092a864886f70d010108', ...hash));
const hashed = (hash: string): string => der(0xa0, hash);
const salt = der(0xa2, '020120');

const problemOf = (...parts: readonly string[]): string | undefined =>
  signatureProblem(readDer(Buffer.from(der(0x30, ...parts), 'hex'))[0]);

test('RSA-PSS with SHA-256 in both places is accepted', () => {
  assert.equal(problemOf(rsaPss, der(0x30, hashed(sha256), mask(sha256), salt)), undefined);
});

for (const [what, ...parameters] of [
  ['without parameters, which means SHA-1'],
  ['with none of them', der(0x30)],
  ['with NULL instead of them', '0500'],
  ['with SHA-1', der(0x30, hashed(sha1), mask(sha1))],
  ['with SHA-1 in the mask', der(0x30, hashed(sha256), mask(sha1))],
  ['with a mask of no hash', der(0x30, hashed(sha256), mask())],
  ['without a mask', der(0x30, hashed(sha256), salt)],
  ['with an empty hash', der(0x30, der(0xa0), mask(sha256))],
  ['with parameters that are cut off', der(0x30, 'a020')],
] as const) {
  test(`RSA-PSS ${what} proves nothing, and is no reason not to read the certificate`, () => {
    assert.match(problemOf(rsaPss, ...parameters) ?? '', /^its RSA-PSS signature is not one with SHA-2 throughout$/);
  });
}
