import assert from 'node:assert/strict';
import {
  copyFileSync,
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
import { test } from 'node:test';
import { sealedCopy, sealsItself, spawnExec } from './sealed-program.ts';

const folder = mkdtempSync(join(tmpdir(), 'sealed-'));
test.after(() => rmSync(folder, { recursive: true }));
const command = { handler: 'x', root: folder, systemdCgroup: false, env: {}, cpuset: '' };

test('CVE-2019-5736: nobody can write to the copy that a runtime is run from', () => {
  const file = sealedCopy('/usr/bin/crun');
  assert.ok(file !== undefined);
  assert.deepEqual(readFileSync(file), readFileSync('/usr/bin/crun'));
  assert.throws(() => truncateSync(file, 0), { code: 'EPERM' });
  assert.throws(() => writeFileSync(openSync(file, 'r+'), 'x'), { code: 'EPERM' });
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

test('only what protects itself is run from a copy, as scripts look for the path they are called by', () => {
  assert.ok(sealsItself('crun version 1.8.1'));
  assert.ok(sealsItself('runc version 1.1.5+ds1'));
  assert.ok(!sealsItself('kata-runtime  : 3.2.0'));
  assert.ok(!sealsItself(''));
});

test('a program that cannot be run from a copy is run from its file', () => {
  // No #! line: the kernel does not execute it (ENOEXEC), neither here nor there, and says so of the file.
  const program = join(folder, 'no-program');
  writeFileSync(program, 'nothing', { mode: 0o755 });
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
    assert.equal(readFileSync(`/proc/${child.pid}/cmdline`, 'latin1'), `${program}\0` + '60\0');
  } finally {
    child.kill(9);
    await child.exited;
  }
});
