import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { acquireFileLock, tryAcquireFileLock } from './lock.ts';

const folder = mkdtempSync(join(tmpdir(), 'sys-lock-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'x.lock');

test('a writer excludes everybody, readers only writers', async () => {
  {
    using writer = await acquireFileLock(path, 'write');
    assert.equal(statSync(path).mode & 0o777, 0o644);
    assert.equal(writer.mode, 'write');
    assert.equal(tryAcquireFileLock(path, 'read'), undefined);
    assert.equal(tryAcquireFileLock(path, 'write'), undefined);
  }
  using first = await acquireFileLock(path, 'read');
  using second = tryAcquireFileLock(path, 'read');
  assert.ok(first.fd !== second?.fd);
  assert.equal(tryAcquireFileLock(path, 'write'), undefined);
});

test('acquireFileLock waits until the lock is free', async () => {
  const holder = await acquireFileLock(path, 'write');
  setTimeout(() => holder.release(), 30);
  const started = performance.now();
  const next = await acquireFileLock(path, 'write');
  assert.ok(performance.now() - started >= 25);
  next.release();
  next.release();
});

test('acquireFileLock gives up with the reason of its signal', async () => {
  using holder = await acquireFileLock(path, 'write');
  const reason = new Error('no longer');
  await assert.rejects(acquireFileLock(path, 'read', { signal: AbortSignal.abort(reason) }), reason);
  await assert.rejects(acquireFileLock(path, 'read', { signal: AbortSignal.timeout(10) }), { name: 'TimeoutError' });
  assert.equal(holder.mode, 'write');
});
