import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { BackgroundVerifier } from './background-verifier.ts';

describe('BackgroundVerifier', () => {
  it('looks at the next layer when its thread has died', { timeout: 20_000 }, async () => {
    await using verifier = new BackgroundVerifier();
    const layer = { diffFolder: '/nowhere', tarSplit: '/nowhere.gz', diffDigest: 'sha256:0', hasWhiteouts: true };
    const { signal } = new AbortController();
    process.once('worker', (worker: Worker) => void worker.terminate());
    await assert.rejects(verifier.verify(layer, signal), /verify worker ended/);
    assert.deepEqual(await verifier.verify(layer, signal), { reason: 'its content is missing', canRun: false });
  });
});
