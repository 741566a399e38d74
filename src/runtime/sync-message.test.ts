import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseSyncMessage } from './sync-message.ts';

test('parseSyncMessage reads both outcomes', () => {
  assert.deepEqual(parseSyncMessage(Buffer.from('{"pid": 11325}\n')), { pid: 11325, message: '' });
  assert.deepEqual(parseSyncMessage(Buffer.from('{"pid": -1, "message": "no \\/bin\\u000a"}\nrest')), {
    pid: -1,
    message: 'no /bin\n',
  });
});

test('parseSyncMessage waits for the end of the line', () => {
  assert.equal(parseSyncMessage(Buffer.from('{"pid": 1')), undefined);
  assert.equal(parseSyncMessage(Buffer.alloc(0)), undefined);
});

test('parseSyncMessage takes a character that was cut in half', () => {
  const line = Buffer.concat([
    Buffer.from('{"pid": -1, "message": "x'),
    Buffer.from([0xe2, 0x82]),
    Buffer.from('"}\n'),
  ]);
  assert.equal(parseSyncMessage(line)?.message, 'x\ufffd');
});

test('parseSyncMessage refuses everything else', () => {
  for (const text of ['null\n', '1\n', '{}\n', '{"pid":"1"}\n', '{"pid":1.5}\n', 'x\n', '{"data":3}\n']) {
    assert.throws(() => parseSyncMessage(Buffer.from(text)), SyntaxError, text);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        parseSyncMessage(Buffer.concat([bytes, Buffer.from('\n')]));
      } catch (error) {
        assert.ok(error instanceof SyntaxError);
      }
    }),
  );
});
