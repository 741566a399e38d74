import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { formatTimeNs, parseTimeNs } from './clock.ts';
import { CrioError, hasCode, kindOf, SysError, wrap } from './errors.ts';
import { isId, newId } from './ids.ts';
import { KeyedLock } from './keyed-lock.ts';
import { Logger } from './log.ts';
import { readBounded } from './read-bounded.ts';

test('formatTimeNs drops trailing zeros and parseTimeNs reads it back', () => {
  assert.equal(formatTimeNs(1767323045_678000000n), '2026-01-02T03:04:05.678Z');
  assert.equal(formatTimeNs(1767323045_000000000n), '2026-01-02T03:04:05Z');
  assert.equal(formatTimeNs(1767323045_000000001n), '2026-01-02T03:04:05.000000001Z');
  assert.equal(parseTimeNs('2026-01-02T03:04:05.000000001Z'), 1767323045_000000001n);
  assert.equal(parseTimeNs('2026-01-02T04:04:05.5+01:00'), 1767323045_500000000n);
  assert.equal(parseTimeNs('0001-01-01T00:00:00Z'), 0n);
  assert.equal(parseTimeNs('yesterday'), undefined);
});

test('wrap keeps the kind and appends the cause', () => {
  const error = wrap('remove pod "x"', new CrioError('not-found', 'no such pod'));
  assert.equal(error.message, 'remove pod "x": no such pod');
  assert.equal(kindOf(error), 'not-found');
});

test('SysError names the call, the path and the code', () => {
  const error = new SysError({ code: 'EBUSY', errno: 16, syscall: 'umount', path: '/x' });
  assert.equal(error.message, 'umount "/x": EBUSY');
  assert.ok(hasCode(error, 'ENOENT', 'EBUSY'));
});

test('errors of disks have their names, which libuv does not know', () => {
  const cases = [
    [constants.errno.EDQUOT, 'EDQUOT: disk quota exceeded'],
    [constants.errno.ESTALE, 'ESTALE: stale file handle'],
    [constants.errno.EBADMSG, 'EBADMSG: bad message'],
    [117, 'EUCLEAN: structure needs cleaning'],
  ] as const;
  for (const [errno, text] of cases) {
    // As `uvException` and as `writeSync` of Node make them.
    const nameless = `Unknown system error -${errno}`;
    const [asynchronous, synchronous] = [
      Object.assign(new Error(`${nameless}: ${nameless}, write`), { code: nameless, errno: -errno }),
      Object.assign(new Error('UNKNOWN: unknown error, write'), { code: 'UNKNOWN', errno: -errno }),
    ];
    for (const error of [asynchronous, synchronous]) {
      assert.ok(hasCode(error, text.split(':')[0] ?? ''));
      assert.equal(wrap('write file', error).message, `write file: ${text}, write`);
    }
  }
});

test('a file that can be opened and not be read is named', async () => {
  await assert.rejects(readBounded('/tmp', 100_000), { message: 'read "/tmp": EISDIR', code: 'EISDIR', path: '/tmp' });
  await assert.rejects(readBounded('/nothing/there', 1), { code: 'ENOENT', path: '/nothing/there' });
});

test('newId never starts with twelve decimal digits', () => {
  for (let i = 0; i < 1000; i += 1) {
    const id = newId();
    assert.ok(isId(id));
    assert.doesNotMatch(id, /^\d{12}/);
  }
});

test('KeyedLock serves one holder per key, in order, and forgets free keys', async () => {
  const lock = new KeyedLock();
  const order: string[] = [];
  const hold = (key: string, label: string) =>
    lock.run(key, async () => {
      order.push(`+${label}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
      order.push(`-${label}`);
    });
  const failing = lock.run('a', () => Promise.reject(new Error('no')));
  await Promise.all([assert.rejects(failing), hold('a', '1'), hold('a', '2'), hold('b', '3')]);
  assert.ok(order.indexOf('-1') < order.indexOf('+2'));
  assert.ok(order.indexOf('+3') < order.indexOf('-1'));
  assert.equal(lock.size, 0);
});

test('Logger writes one logrus line per event, whatever the message holds', () => {
  const lines: string[] = [];
  const sink = {
    level: 'info',
    filter: /shown/,
    format: 'text',
    write: (line: string) => void lines.push(line),
  } as const;
  const log = new Logger({ ...sink }).with({ id: 'a b' });
  log.info('shown "quoted"\nsecond line');
  log.info('hidden by the filter');
  log.debug(() => assert.fail('built although the level is off'));
  log.error('always shown', new Error('cause'));
  assert.equal(lines.length, 2);
  assert.match(lines[0] ?? '', /^time="[^"]+" level=info msg="shown \\"quoted\\"\\nsecond line" id="a b"\n$/);
  assert.match(lines[1] ?? '', /level=error msg="always shown: cause"/);
});
