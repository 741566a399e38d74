import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { failure, openBench } from './testing/bench.ts';
import { putImage } from './testing/fake-registry.ts';
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

describe('the observer of pulls', () => {
  it('is told of bytes, of layers that came or were here, and of how pulls ended', async () => {
    const seen: string[] = [];
    let bytes = 0;
    await using bench = await openBench({
      onPull: {
        downloaded: (_, count) => (bytes += count),
        layerDone: (layer, how, reference) => seen.push(`${layer.digest} ${how} ${reference}`),
        pullDone: (failed) => seen.push(failed ?? 'success'),
      },
    });
    const { registry } = bench;
    const { layerDigests } = putImage(registry, 'a', '1');
    putImage(registry, 'a', '2', { layers: [Buffer.from('layer of a:1')], config: { User: 'u' } });
    const name = `${registry.host}/a`;
    await bench.pull(`${name}:1`);
    assert.equal(bytes, registry.blobs.get(layerDigests[0] ?? '')?.length);
    await bench.pull(`${name}:2`);
    await failure(bench.pull(`${name}:3`));
    assert.deepEqual(seen, [
      `${layerDigests[0]} downloaded ${name}:1`,
      'success',
      `${layerDigests[0]} reused ${name}:2`,
      'success',
      'MANIFEST_UNKNOWN',
    ]);
  });
});
