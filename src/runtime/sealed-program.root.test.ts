import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  fchmodSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { bind } from '../sys/libc.ts';
import { sealedCopy, sealsItself, spawnExec } from './sealed-program.ts';

const F_SETLEASE = 1024;
const F_WRLCK = 1;
const fcntl = bind<(fd: number, command: number, arg: number) => number>('int fcntl(int fd, int cmd, long arg)');

const folder = mkdtempSync(join(tmpdir(), 'sealed-'));
test.after(() => rmSync(folder, { recursive: true }));
const command = { handler: 'x', root: folder, systemdCgroup: false, env: {}, cpuset: '' };

test('CVE-2019-5736: nobody can write to the copy that a runtime is run from', () => {
  const file = sealedCopy('/usr/bin/crun');
  assert.ok(file !== undefined);
  assert.deepEqual(readFileSync(file), readFileSync('/usr/bin/crun'));
  assert.throws(() => truncateSync(file, 0), { code: 'EPERM' });
  const writable = openSync(file, 'r+');
  assert.throws(() => writeFileSync(writable, 'x'), { code: 'EPERM' });
  closeSync(writable);
});

test('CVE-2019-5736: who reaches the copy from a container can neither stop the next exec nor let it wait', async () => {
  const run = (program: string) =>
    spawnExec({ ...command, path: program, mayBeSealed: true }, [], ['null', 'null', 'null']).exited;
  const attacks = {
    'keeps it open for writing': (file: string) => openSync(file, 'r+'),
    'takes its mode away': (file: string) => {
      const fd = openSync(file, 'r');
      fchmodSync(fd, 0);
      return fd;
    },
  };
  for (const [name, attack] of Object.entries(attacks)) {
    const program = join(folder, name);
    copyFileSync('/bin/true', program);
    const file = sealedCopy(program);
    assert.ok(file !== undefined);
    const fd = attack(file);
    assert.deepEqual(await run(program), { code: 0, signal: undefined });
    assert.equal(sealedCopy(program), undefined);
    closeSync(fd);
  }
  const file = sealedCopy('/bin/true');
  assert.ok(file !== undefined);
  // The holder of a lease is asked for it, and execve(2) waits for the answer.
  for (const flags of ['r', 'r+']) {
    const fd = openSync(file, flags);
    assert.equal(fcntl(fd, F_SETLEASE, F_WRLCK), -1, flags);
    closeSync(fd);
  }
  assert.deepEqual(await run('/bin/true'), { code: 0, signal: undefined });
});

test('a program that an update replaces is copied anew, one that is gone has no copy', () => {
  const program = join(folder, 'program');
  copyFileSync('/bin/true', program);
  const first = sealedCopy(program);
  assert.equal(sealedCopy(program), first);
  rmSync(program);
  copyFileSync('/bin/false', program);
  const second = sealedCopy(program);
  assert.ok(second !== undefined);
  assert.deepEqual(readFileSync(second), readFileSync('/bin/false'));
  rmSync(program);
  assert.equal(sealedCopy(program), undefined);
});

test('a script around a runtime is not run from a copy, as it may look for the path it is called by', () => {
  const program = join(folder, 'script');
  writeFileSync(program, '#!/bin/sh\nexec "$(dirname "$0")/runc.real" "$@"\n', { mode: 0o755 });
  assert.equal(sealedCopy(program), undefined);
});

test('only what protects itself is run from a copy', () => {
  assert.ok(sealsItself('crun version 1.8.1'));
  assert.ok(sealsItself('runc version 1.1.5+ds1'));
  assert.ok(!sealsItself('kata-runtime  : 3.2.0'));
  assert.ok(!sealsItself(''));
});

test('a program that cannot be run from a copy is run from its file', () => {
  // Nothing but the magic: the kernel does not execute it (ENOEXEC), neither here nor there, and says so of the file.
  const program = join(folder, 'no-program');
  writeFileSync(program, '\x7fELF', { mode: 0o755 });
  assert.ok(sealedCopy(program) !== undefined);
  assert.throws(() => spawnExec({ ...command, path: program, mayBeSealed: true }, [], ['null', 'null', 'null']), {
    message: new RegExp(`posix_spawn.*${program}`),
  });
  assert.equal(sealedCopy(program), undefined);
});

test('what runs from a copy sees the path it was configured with as its name', async () => {
  const program = join(folder, 'waiting');
  copyFileSync('/bin/sleep', program);
  const child = spawnExec({ ...command, path: program, mayBeSealed: true }, ['60'], ['null', 'null', 'null']);
  try {
    assert.match(readlinkSync(`/proc/${child.pid}/exe`), /^\/memfd:runtime/);
    // Empty for a moment: vfork(2) is over before the kernel has noted where the new program's arguments are.
    const readArguments = () => readFileSync(`/proc/${child.pid}/cmdline`, 'latin1');
    for (let tries = 0; readArguments() === '' && tries < 500; tries++) await sleep(10);
    assert.equal(readArguments(), `${program}\0` + '60\0');
  } finally {
    child.kill(9);
    await child.exited;
  }
});
