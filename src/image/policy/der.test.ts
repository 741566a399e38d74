import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeBase64 } from './base64.ts';
import { readCertificates } from './certificate.ts';
import { readBoolean, readDer, readInteger, readObjectId, readOnlyDer } from './der.ts';
import { readOnlyPem, readPem } from './pem.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('readDer', () => {
  it('reads elements in a row, short and long', () => {
    const long = Buffer.concat([hex('04 82 0100'), Buffer.alloc(256, 7)]);
    const elements = readDer(Buffer.concat([hex('02 01 05'), long, hex('05 00')]));
    assert.deepEqual(
      elements.map(({ tag, content }) => [tag, content.length]),
      [
        [2, 1],
        [4, 256],
        [5, 0],
      ],
    );
  });

  for (const [what, text] of [
    ['an indefinite length', '30 80 00 00'],
    ['a length that could be shorter', '04 81 01 00'],
    ['a length with a leading zero', '04 82 0081'],
    ['a length of five octets', '04 85 0000000001 00'],
    ['a length past the end', '04 02 00'],
    ['a header that is cut off', '04'],
    ['a tag of several octets', '1f 81 01 00'],
  ] as const)
    it(`refuses ${what}`, () => assert.throws(() => readDer(hex(text)), { kind: 'invalid' }));

  it('never throws anything but a clear error, and never reads past the end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          const total = readDer(Buffer.from(bytes)).reduce((sum, { content }) => sum + content.length, 0);
          assert.ok(total <= bytes.length);
        } catch (error) {
          assert.equal((error as { kind?: string }).kind, 'invalid');
        }
      }),
    );
  });

  it('reads values in their only form', () => {
    assert.equal(readObjectId(hex('2b 06 01 04 01 83 bf 30 01 08')), '1.3.6.1.4.1.57264.1.8');
    assert.equal(readObjectId(hex('55 1d 25 00')), '2.5.29.37.0');
    assert.equal(readInteger(hex('7f')), 127);
    assert.equal(readBoolean(hex('ff')), true);
    for (const wrong of [() => readObjectId(hex('2b 86')), () => readObjectId(hex('')), () => readInteger(hex('80'))])
      assert.throws(wrong, { kind: 'invalid' });
    assert.throws(() => readBoolean(hex('01')), { kind: 'invalid' });
    assert.throws(() => readOnlyDer(hex('04 00 04 00'), 4), { kind: 'invalid' });
    assert.throws(() => readOnlyDer(hex('04 00'), 2), { kind: 'invalid' });
  });
});

describe('PEM', () => {
  const block = (label: string, body: string) => `-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`;

  it('finds all blocks between other text', () => {
    const blocks = readPem(`subject: x\n${block('A', 'AAAA')}more\n${block('B C', 'AQID')}`, 'x');
    assert.deepEqual(blocks, [
      { label: 'A', der: hex('000000') },
      { label: 'B C', der: hex('010203') },
    ]);
  });

  it('refuses more than the one block that is asked for', () => {
    assert.equal(readOnlyPem(block('A', 'AAAA'), 'x').label, 'A');
    for (const text of ['', 'x', `x${block('A', 'AAAA')}`, block('A', 'AAAA').repeat(2), `${block('A', 'AAAA')}x`])
      assert.throws(() => readOnlyPem(text, 'x'), { kind: 'invalid' });
  });

  it('reads blocks that never end in linear time', { timeout: 10_000 }, () => {
    for (const filler of [' ', '\n', 'A', '-----BEGIN A-----']) {
      const text = `-----BEGIN A-----${filler.repeat(300_000 / filler.length)}`;
      assert.deepEqual(readPem(text, 'x'), []);
      assert.throws(() => readOnlyPem(text, 'x'), /not one block of PEM/);
    }
    assert.throws(() => decodeBase64(`${'A'.repeat(300_000)}!`, 'x'), /x: not base64/);
  });

  it('refuses what base64 does not have', () => {
    for (const text of ['A', 'AAA', 'AA=A', 'AA-_', 'AAAA ', 'AAAA='])
      assert.throws(() => decodeBase64(text, 'x'), /x: not base64/);
    assert.deepEqual(decodeBase64('AAE=', 'x'), hex('0001'));
  });

  it('gives a clear error for a certificate that is none', () => {
    assert.throws(
      () => readCertificates(block('CERTIFICATE', 'AAAA'), 'this'),
      /^CrioError: read certificate of this: /,
    );
    assert.throws(() => readCertificates(block('PRIVATE KEY', 'AAAA'), 'this'), /this: unexpected "PRIVATE KEY"/);
    assert.throws(() => readCertificates(block('CERTIFICATE', 'AAAA').repeat(33), 'this'), /more than 32/);
  });
});
