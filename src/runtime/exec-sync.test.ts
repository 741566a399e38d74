import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import { lastError } from './exec-files.ts';
import { TimeLimit } from './exec-sync.ts';
import { withoutUnset } from './oci.ts';

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

test('withoutUnset leaves out zeros that mean "not set", and only these', () => {
  assert.deepEqual(
    withoutUnset({
      memory: { limit: 0, reservation: 5, swap: 0, disableOOMKiller: false },
      cpu: { shares: 0, quota: -1, period: 100000, cpus: '0' },
      pids: { limit: 0 },
    }),
    {
      memory: { reservation: 5, disableOOMKiller: false },
      cpu: { quota: -1, period: 100000, cpus: '0' },
      pids: { limit: 0 },
    },
  );
  assert.deepEqual(withoutUnset({}), {});
});

test('TimeLimit takes a time that is longer than a timer can be', async () => {
  const call = new Call({ name: 'test', id: '1', log: silentLog });
  const limit = new TimeLimit(call, 30 * 24 * 3600 * 1000);
  await sleep(20);
  limit.end();
  assert.equal(limit.timedOut, false);
});
