import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { planArtifactBinds } from './artifact-volumes.ts';
import type { ArtifactFile } from './artifact-volumes.ts';

const files = (...titles: string[]): readonly ArtifactFile[] =>
  titles.map((title) => ({ path: `/blobs/${title}`, title }));

function plan(
  titles: readonly string[],
  options: { containerPath?: string; subPath?: string } = {},
): readonly string[] {
  const { containerPath = '/in', subPath = '' } = options;
  return planArtifactBinds(files(...titles), { image: 'r.io/a:1', containerPath, subPath }).map(
    ({ source, destination }) => `${source} ${destination}`,
  );
}

describe('planArtifactBinds', () => {
  it('puts each file below the container path', () => {
    assert.deepEqual(plan(['a.txt', 'sub/b.txt'], { containerPath: '/in/' }), [
      '/blobs/a.txt /in/a.txt',
      '/blobs/sub/b.txt /in/sub/b.txt',
    ]);
    assert.deepEqual(plan([]), []);
  });

  it('takes the sub path off the titles, at whole parts', () => {
    assert.deepEqual(plan(['sub/b', 'sub/c/d', 'subway', 'a'], { subPath: './sub/' }), [
      '/blobs/sub/b /in/b',
      '/blobs/sub/c/d /in/c/d',
    ]);
    assert.deepEqual(plan(['sub/b', 'a'], { subPath: 'sub/b' }), ['/blobs/sub/b /in']);
  });

  it('refuses a sub path that no title has', () => {
    for (const subPath of ['nothing', '..', '../in', 'sub/..'])
      assert.throws(() => plan(['sub/b'], { subPath }), {
        message: `sub path "${subPath}" does not exist in OCI artifact volume "r.io/a:1"`,
      });
  });

  it('refuses titles that cannot be at the same time', () => {
    assert.throws(() => plan(['a', 'a']), /has "\/in\/a" twice/);
    assert.throws(() => plan(['a/b', 'a']), /has "\/in\/a" as a file and as a folder/);
  });
});
