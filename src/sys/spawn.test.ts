import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { env as ownEnv } from 'node:process';
import { setTimeout } from 'node:timers/promises';
import { memfdCreate } from './descriptor.ts';
import { childNoFileSoftLimit } from './nofile.ts';
import { processState } from './process.ts';
import { run } from './run.ts';
import { decodeStatus, spawn } from './spawn.ts';

const env = { PATH: ownEnv['PATH'] ?? '/usr/bin:/bin' };
const shell = (script: string) => ({ file: '/bin/sh', args: ['-c', script], env });

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

test('run gives exit code, output and error output', async () => {
  const result = await run(shell('echo out; echo err >&2; exit 3'));
  assert.deepEqual(
    [result.code, result.signal, result.stdout.toString(), result.stderr.toString(), result.timedOut],
    [3, undefined, 'out\n', 'err\n', false],
  );
});

test('run feeds the input and reads through pipes', async () => {
  const input = 'x'.repeat(300_000);
  const result = await run({ file: 'cat', args: [], env, input, output: 'pipe' });
  assert.equal(result.stdout.toString(), input);
});

test('run keeps maxOutputBytes and reads the rest', async () => {
  const result = await run({ ...shell('head -c 500000 /dev/zero; exit 4'), output: 'pipe', maxOutputBytes: 10 });
  assert.deepEqual([result.stdout.length, result.code], [10, 4]);
});

test('run does not wait for a grandchild that keeps the output open', async () => {
  const started = performance.now();
  const result = await run({ ...shell('sleep 5 & echo $!'), output: 'pipe' });
  assert.ok(performance.now() - started < 2000);
  process.kill(Number(result.stdout.toString()), 'SIGKILL');
});

test('run kills the whole process group at the timeout', async () => {
  const result = await run({ ...shell('sleep 20 & echo $!; wait'), timeoutMs: 200 });
  assert.deepEqual([result.signal, result.timedOut], [9, true]);
  const child = Number(result.stdout.toString());
  const hasEnded = () => [undefined, 'Z', 'X'].includes(processState(child));
  // A process that was killed ends when it next gets a turn; the sleep alone would take 20 s.
  for (let tries = 0; tries < 100 && !hasEnded(); tries++) await setTimeout(20);
  assert.ok(hasEnded(), `child is ${processState(child)}`);
});

test('run rejects when its signal is aborted', async () => {
  await assert.rejects(run({ ...shell('sleep 20'), signal: AbortSignal.timeout(30) }), { kind: 'canceled' });
});

test('spawn throws what the child met: no file, no permission, no folder', () => {
  assert.throws(() => spawn({ file: '/nonexistent', args: [], env }), { code: 'ENOENT', path: '/nonexistent' });
  assert.throws(() => spawn({ file: '/etc/passwd', args: [], env }), { code: 'EACCES' });
  assert.throws(() => spawn({ file: '/bin/true', args: [], env, cwd: '/nonexistent' }), { code: 'ENOENT' });
});

test('spawn refuses arguments that C would cut', () => {
  assert.throws(() => spawn({ file: '/bin/echo', args: ['a\0b'], env }), { code: 'EINVAL' });
});

test('a child has only the descriptors it was given, and the daemon’s start limit', async () => {
  const leak = openSync('/etc/passwd', 'r');
  const result = await run(shell('cd /proc/self/fd && echo *; ulimit -Sn'));
  closeSync(leak);
  const [descriptors, limit] = result.stdout.toString().split('\n');
  assert.match(descriptors ?? '', /^0 1 2( \d+)?$/);
  assert.equal(BigInt(limit ?? ''), childNoFileSoftLimit());
});

test('a child has default signal actions, nothing blocked, and leads its process group', async () => {
  const result = await run({ file: 'cat', args: ['/proc/self/status', '/proc/self/stat'], env });
  const text = result.stdout.toString();
  assert.match(text, /SigBlk:\t0{16}\n/);
  // 32 and 33 belong to the C library, which leaves them ignored.
  assert.match(text, /SigIgn:\t0000000180000000\n|SigIgn:\t0{16}\n/);
  const pid = /^Pid:\t(\d+)$/m.exec(text)?.[1];
  assert.match(text, new RegExp(`^${pid} \\(cat\\) R \\d+ ${pid} `, 'm'));
});

test('given descriptors arrive at their numbers, also when these overlap', async () => {
  const [a, b] = [memfdCreate('a', 'A'), memfdCreate('b', 'B')];
  const result = await run({ ...shell('cat <&3; cat <&4'), extraFds: [b, a] });
  assert.equal(result.stdout.toString(), 'BA');
  closeSync(a);
  closeSync(b);
});

test('spawn and run leave no descriptor open', async () => {
  await run(shell('true'));
  const before = openDescriptors();
  for (let round = 0; round < 5; round++) {
    await run({ ...shell('echo x'), input: 'y' });
    await run({ ...shell('echo x'), output: 'pipe' });
    assert.throws(() => spawn({ file: '/nonexistent', args: [], env, stdio: ['pipe', 'memfd', 'pipe'] }));
  }
  await setTimeout(20);
  assert.equal(openDescriptors(), before);
});

test('kill after the end is harmless', async () => {
  const child = spawn({ file: '/bin/true', args: [], env });
  await child.exited;
  child.kill(9);
  child.kill(9, { group: true });
});

test('decodeStatus tells codes from signals', () => {
  assert.deepEqual(decodeStatus(0x0300), { code: 3, signal: undefined });
  assert.deepEqual(decodeStatus(9), { code: undefined, signal: 9 });
  assert.deepEqual(decodeStatus(0x8b), { code: undefined, signal: 11 });
});

test('memfd content is read whole whatever its offset', async () => {
  const child = spawn({ ...shell('echo one; echo two'), stdio: ['null', 'memfd', 'null'] });
  await child.exited;
  assert.equal(child.takeMemfd(1).toString(), 'one\ntwo\n');
  assert.equal(child.takeMemfd(1).length, 0);
});
