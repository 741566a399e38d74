import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatPodState, parsePodState } from './state-file.ts';

const createdAtNs = 1_795_246_033_585_175_933n;

test('the state of a dropped infra container is the one CRI-O writes', () => {
  const text = formatPodState({
    infra: undefined,
    isStopped: false,
    createdAtNs,
    startedAtNs: createdAtNs,
    finishedAtNs: 0n,
  });
  assert.equal(
    text,
    '{"ociVersion":"","id":"","status":"","bundle":"","created":"2026-11-21T07:27:13.585175933Z",' +
      '"started":"2026-11-21T07:27:13.585175933Z","finished":"0001-01-01T00:00:00Z","checkpointedTime":"0001-01-01T00:00:00Z"}\n',
  );
});

test('the state of a kept one is read back as it was written', () => {
  const init = { pid: 28_395, startTime: '407873' };
  const monitor = { pid: 28_385, startTime: '407871' };
  const infra = {
    id: 'a',
    bundle: '/b',
    ociVersion: '1.0.0',
    annotations: { a: '<b>' },
    init,
    monitor,
    exitCode: undefined,
  };
  const text = formatPodState({
    infra,
    isStopped: false,
    createdAtNs,
    startedAtNs: createdAtNs + 1n,
    finishedAtNs: 0n,
  });
  assert.match(text, /"annotations":\{"a":"\\u003cb\\u003e"\}/);
  const state = parsePodState(text);
  assert.deepEqual(state, {
    isStopped: false,
    init,
    monitor,
    createdAtNs,
    startedAtNs: createdAtNs + 1n,
    finishedAtNs: 0n,
  });
});

test('parsePodState fails for damaged files with a CrioError only', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        parsePodState(text);
      } catch (error) {
        assert.equal((error as Error).name, 'CrioError');
      }
    }),
  );
});
