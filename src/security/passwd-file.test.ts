import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { maxId, parseGroupLine, parseId, parsePasswdLine } from './passwd-file.ts';

test('parsePasswdLine reads well-formed lines only', () => {
  assert.deepEqual(parsePasswdLine('app:x:1000:2000:App:/home/app:/bin/sh'), { name: 'app', uid: 1000, gid: 2000 });
  assert.deepEqual(parsePasswdLine('app:x:1000:2000'), { name: 'app', uid: 1000, gid: 2000 });
  for (const bad of [
    '',
    '#app:x:1:1',
    ':x:1:1',
    'app:x:a:1',
    'app:x:1',
    'app:x:-1:1',
    'app:x:4294967296:0',
    '+::::::',
  ]) {
    assert.equal(parsePasswdLine(bad), undefined, bad);
  }
});

test('parseGroupLine reads members', () => {
  assert.deepEqual(parseGroupLine('adm:x:4:a,b,'), { name: 'adm', gid: 4, members: ['a', 'b'] });
  assert.deepEqual(parseGroupLine('adm:x:4:'), { name: 'adm', gid: 4, members: [] });
  assert.equal(parseGroupLine('adm:x:four:a'), undefined);
});

test('parseId never gives a number out of range, whatever the text', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.bigInt().map(String), fc.stringMatching(/^[0-9]{1,25}$/)), (text) => {
      const id = parseId(text);
      if (id === undefined) return;
      assert.ok(id >= 0 && id <= maxId);
      assert.equal(BigInt(text), BigInt(id));
    }),
  );
});

test('parsePasswdLine gives back what a line was made of', () => {
  const name = fc.stringMatching(/^[a-z_][a-z0-9_-]{0,20}$/);
  const id = fc.integer({ min: 0, max: maxId });
  fc.assert(
    fc.property(name, id, id, fc.string(), (user, uid, gid, rest) => {
      assert.deepEqual(parsePasswdLine(`${user}:x:${uid}:${gid}:${rest}`), { name: user, uid, gid });
    }),
  );
});
