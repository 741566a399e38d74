import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import { lastError } from './exec-files.ts';
import { TimeLimit } from './exec-sync.ts';

test('lastError finds the last error line of either runtime’s log', () => {
  assert.equal(
    lastError('{"level":"warning","msg":"w","time":"t"}\n{"level":"error","msg":"exec failed: no","time":"t"}\n'),
    'exec failed: no',
  );
  assert.equal(
    lastError('{ "msg": "executable file `x` not found\\n", "level": "error", "time": "t" }\n'),
    'executable file `x` not found',
  );
  assert.equal(lastError(''), undefined);
  assert.equal(lastError('{"level":"warning","msg":"w"}\nnot json\n{"level":"error"'), undefined);
});

test('TimeLimit takes a time that is longer than a timer can be', async () => {
  const call = new Call({ name: 'test', id: '1', log: silentLog });
  const limit = new TimeLimit(call, 30 * 24 * 3600 * 1000);
  await sleep(20);
  limit[Symbol.dispose]();
  assert.equal(limit.timedOut, false);
});
