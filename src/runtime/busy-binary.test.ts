import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Call } from '../base/call.ts';
import { CrioError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { retryWhileBinaryIsBusy } from './busy-binary.ts';

/** As conmon hands on what runc has printed. */
const busy = new CrioError(
  'unknown',
  'container create failed: time="2026-01-01T00:00:00Z" level=fatal msg="nsexec[7]: could not ensure we are a cloned ' +
    'binary: Device or resource busy"\ntime="2026-01-01T00:00:00Z" level=error msg="runc create failed: EOF"',
);

function failing(error: Error, times: number): { readonly work: () => Promise<string>; readonly count: () => number } {
  let count = 0;
  const work = async (): Promise<string> => {
    if (++count <= times) throw error;
    return 'done';
  };
  return { work, count: () => count };
}

test('retryWhileBinaryIsBusy tries again a few times, on exactly this error', async () => {
  const call = new Call({ name: 'test', id: '1', log: silentLog });
  const twice = failing(busy, 2);
  assert.equal(await retryWhileBinaryIsBusy(call, twice.work), 'done');
  assert.equal(twice.count(), 3);
  const always = failing(busy, 100);
  await assert.rejects(retryWhileBinaryIsBusy(call, always.work), busy);
  assert.equal(always.count(), 4);
  const other = failing(new CrioError('unknown', 'container create failed: Device or resource busy'), 1);
  await assert.rejects(retryWhileBinaryIsBusy(call, other.work), /Device or resource busy$/);
  assert.equal(other.count(), 1);
});

test('retryWhileBinaryIsBusy ends with its call', async () => {
  const abort = new AbortController();
  const call = new Call({ name: 'test', id: '1', log: silentLog, signal: abort.signal });
  const always = failing(busy, 100);
  const result = retryWhileBinaryIsBusy(call, always.work);
  abort.abort(new CrioError('canceled', 'context canceled'));
  await assert.rejects(result, { kind: 'canceled' });
  assert.equal(always.count(), 1);
});
