import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseRuntimeState } from './state.ts';

test('parseRuntimeState reads what runc and crun print', () => {
  const state = parseRuntimeState(
    '{"ociVersion":"1.0.0","id":"a","pid":12,"status":"running","bundle":"/b","rootfs":"/r","created":"2026-01-02T03:04:05.000006Z","owner":"root","annotations":{"k":"v","__proto__":"x"}}',
  );
  assert.equal(state.status, 'running');
  assert.equal(state.pid, 12);
  assert.deepEqual(Object.entries(state.annotations), [
    ['k', 'v'],
    ['__proto__', 'x'],
  ]);
  assert.equal(parseRuntimeState('{"status":"stopped","pid":0}').pid, 0);
});

test('parseRuntimeState refuses what is no state', () => {
  for (const text of ['', 'x', 'null', '[]', '{}', '{"status":"strange"}']) {
    assert.throws(() => parseRuntimeState(text), /parse state of the runtime/, text);
  }
  fc.assert(fc.property(fc.json(), (text) => assert.throws(() => parseRuntimeState(text), { name: 'CrioError' })));
});
