import assert from 'node:assert/strict';
import { pid as ownPid } from 'node:process';
import { test } from 'node:test';
import fc from 'fast-check';
import { hasCode } from '../base/errors.ts';
import {
  getNoFileLimit,
  isAlive,
  kill,
  killGroup,
  openProcess,
  parseStat,
  processState,
  readStat,
  signalPidfd,
  startTime,
  waitPidfd,
  pidfdOpen,
} from './process.ts';
import { closeSync } from 'node:fs';
import { spawn } from './spawn.ts';

test('parseStat finds the state behind any command', () => {
  const command = fc.array(fc.constantFrom('a', ' ', '(', ')', 'Z'), { maxLength: 15 }).map((chars) => chars.join(''));
  fc.assert(
    fc.property(command, (name) => {
      const stat = parseStat(`42 (${name}) S 1 42 41 ${'0 '.repeat(15)}77 0 0\n`);
      assert.equal(stat?.command, name);
      assert.deepEqual([stat?.state, stat?.parent, stat?.session, stat?.startTime], ['S', 1, 41, '77']);
    }),
  );
});

test('parseStat answers undefined for anything else', () => {
  assert.equal(parseStat(''), undefined);
  assert.equal(parseStat('1 (a) S 1'), undefined);
  fc.assert(fc.property(fc.string(), (text) => void parseStat(text)));
});

test('a process is known by pid and start time', () => {
  const own = { pid: ownPid, startTime: startTime(ownPid) ?? '' };
  assert.ok(isAlive(own));
  assert.ok(!isAlive({ ...own, startTime: '1' }));
  assert.match(processState(ownPid) ?? '', /^[RS]$/);
  assert.equal(readStat(2 ** 22 + 1), undefined);
});

test('kill refuses pids that mean many processes', () => {
  for (const pid of [0, -1, 1, -5, 1.5, Number.NaN]) {
    assert.throws(
      () => kill(pid, 0),
      (error) => hasCode(error, 'EINVAL'),
    );
    assert.throws(
      () => killGroup(pid, 0),
      (error) => hasCode(error, 'EINVAL'),
    );
  }
});

test('kill says ESRCH when the process is gone', () => {
  assert.throws(() => kill(2 ** 22 + 1, 0), { code: 'ESRCH', syscall: 'kill' });
});

test('waitPidfd resolves at the end of the process, and gives up when aborted', async () => {
  const child = spawn({ file: 'sleep', args: ['0.05'], env: {} });
  const fd = pidfdOpen(child.pid);
  await assert.rejects(waitPidfd(fd, AbortSignal.timeout(5)), { name: 'TimeoutError' });
  await waitPidfd(fd);
  closeSync(fd);
  assert.deepEqual(await child.exited, { code: 0, signal: undefined });
});

test('getNoFileLimit reads the limits of another process', () => {
  assert.deepEqual(getNoFileLimit(ownPid), getNoFileLimit());
});

test('openProcess opens the process that is meant, and no other with its pid', async () => {
  const child = spawn({ file: 'sleep', args: ['100'], env: { PATH: '/usr/bin:/bin' } });
  const process = { pid: child.pid, startTime: startTime(child.pid) ?? '' };
  assert.equal(openProcess({ ...process, startTime: '1' }), undefined);
  const fd = openProcess(process);
  assert.ok(fd !== undefined);
  assert.ok(signalPidfd(fd, 9));
  assert.equal((await child.exited).signal, 9);
  assert.equal(signalPidfd(fd, 9), false);
  closeSync(fd);
  assert.equal(openProcess(process), undefined);
});
