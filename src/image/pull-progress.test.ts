import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PullTracker } from './pull-progress.ts';

const layer = { digest: `sha256:${'a'.repeat(64)}`, mediaType: 'application/vnd.oci.image.layer.v1.tar', size: 10 };

describe('PullTracker', () => {
  it('is not idle while the pull that brings its layer moves, and only until it has brought it', (t) => {
    let nowMs = 0;
    t.mock.method(performance, 'now', () => nowMs);
    const [first, second] = [new PullTracker('a'), new PullTracker('b')];
    const [[leader], [follower]] = [first.setLayers([layer]), second.setLayers([layer])];
    follower?.setJoined(leader);
    nowMs = 1000;
    leader?.addBytes(4);
    nowMs = 1500;
    assert.deepEqual([first.idleMs, second.idleMs], [500, 500]);
    assert.equal(second.snapshot.layers[0]?.downloadedBytes, 4);
    follower?.setPhase('downloading');
    nowMs = 2000;
    leader?.addUnpacked(4);
    assert.deepEqual([first.idleMs, second.idleMs], [0, 500]);
  });

  it('counts a layer from its start when what came was wrong', () => {
    const [tracker] = new PullTracker('a').setLayers([layer]);
    tracker?.addBytes(7);
    tracker?.restart();
    tracker?.addBytes(3);
    assert.equal(tracker?.snapshot.downloadedBytes, 3);
  });
});
