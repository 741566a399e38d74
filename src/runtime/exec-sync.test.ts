import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lastError } from './exec-files.ts';
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
