import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Call } from '../base/call.ts';
import { silentLog } from '../base/log.ts';
import { findProfileAnnotation, seccompFromArtifact } from './seccomp-artifact.ts';
import type { ProfileAnnotationRequest } from './seccomp-artifact.ts';

const now = 'seccomp-profile.crio.io';
const before = 'seccomp-profile.kubernetes.cri-o.io';

function request(
  pod: Record<string, string>,
  image: Record<string, string> = {},
  allowed = [now, before],
): ProfileAnnotationRequest {
  return {
    container: 'c',
    podAnnotations: new Map(Object.entries(pod)),
    imageAnnotations: new Map(Object.entries(image)),
    allowed,
  };
}

const find = (...args: Parameters<typeof request>): string | undefined =>
  findProfileAnnotation(request(...args))?.value;

describe('findProfileAnnotation', () => {
  it('goes from the container to the pod to the image, and the name of today wins', () => {
    const image = { [now]: 'i', [`${now}/c`]: 'ic', [`${now}/POD`]: 'ip' };
    assert.equal(find({ [`${now}/c`]: 'c', [`${before}/c`]: 'old', [`${now}/POD`]: 'p' }, image), 'c');
    assert.equal(find({ [`${before}/c`]: 'old', [`${now}/POD`]: 'p' }, image), 'old');
    assert.equal(find({ [`${now}/other`]: 'o', [`${now}/POD`]: 'p' }, image), 'p');
    assert.equal(find({}, image), 'i');
    assert.equal(find({}, { [`${before}/c`]: 'ic', [`${now}/POD`]: 'ip' }), 'ic');
    assert.equal(find({}, { [`${before}/POD`]: 'ip' }), 'ip');
    // A pod's own needs a suffix.
    assert.equal(find({ [now]: 'p' }), undefined);
  });

  it('sees only what the handler allows, also of the image', () => {
    assert.equal(find({ [`${now}/c`]: 'c' }, { [now]: 'i' }, []), undefined);
    assert.equal(find({ [`${now}/c`]: 'c', [`${before}/POD`]: 'old' }, {}, [before]), 'old');
  });
});

describe('seccompFromArtifact', () => {
  const load = (pod: Record<string, string>, fetch: () => Promise<string>) =>
    seccompFromArtifact({
      ...request(pod),
      namespace: 'ns',
      call: new Call({ name: 'CreateContainer', id: 't', log: silentLog }),
      fetch,
    });

  it('reads the profile', async () => {
    const profile = await load({ [`${now}/POD`]: 'r.io/p:1' }, async () => '{"defaultAction":"SCMP_ACT_LOG"}');
    assert.equal(profile?.defaultAction, 'SCMP_ACT_LOG');
    assert.equal(await load({}, () => assert.fail('nothing to fetch')), undefined);
  });

  it('fails for what cannot be pulled or read, and names annotation and artifact', async () => {
    const place = /load seccomp profile of annotation seccomp-profile\.crio\.io\/c from OCI artifact "r\.io\/p:1": /;
    await assert.rejects(
      load({ [`${now}/c`]: 'r.io/p:1' }, () => Promise.reject(new Error('gone'))),
      place,
    );
    await assert.rejects(
      load({ [`${now}/c`]: 'r.io/p:1' }, async () => 'no JSON'),
      place,
    );
  });
});
