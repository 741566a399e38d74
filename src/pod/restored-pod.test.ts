import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordedPod, recordedSpec, recordings } from '../../test/golden/recorded.ts';
import { NamespaceMode } from './config.ts';
import { infraName, podName } from './names.ts';
import { podFromSpec } from './restored-pod.ts';
import type { StoredPod } from './storage-metadata.ts';

const places = { directory: '/dir', runDirectory: '/run' };

for (const recording of recordings) {
  test(`podFromSpec reads back the pod of ${recording} that CRI-O wrote`, () => {
    const request = recordedPod(recording);
    const spec = recordedSpec(recording, 'pod');
    const stored: StoredPod = {
      id: 'id',
      name: podName(request.metadata),
      imageName: '',
      metadata: request.metadata,
      createdAtNs: 0n,
      privileged: false,
    };
    const pod = podFromSpec({ spec, stored, places });
    assert.deepEqual(pod.metadata, request.metadata);
    assert.equal(pod.name, podName(request.metadata));
    assert.equal(pod.infraName, infraName(request.metadata));
    assert.deepEqual(pod.annotations, request.annotations);
    assert.equal(pod.labels.get('io.kubernetes.container.name'), 'POD');
    assert.equal(pod.logDirectory, request.logDirectory);
    assert.equal(pod.cgroupParent, request.cgroupParent);
    assert.deepEqual(pod.portMappings, request.portMappings);
    assert.deepEqual(pod.sysctls, request.sysctls);
    assert.deepEqual(pod.uidMap, request.securityContext?.namespaceOptions?.userns?.uids ?? []);
    assert.equal(pod.infraDropped, request.securityContext?.namespaceOptions?.pid !== NamespaceMode.pod);
    assert.equal(pod.hostNetwork, pod.ips.length === 0);
    assert.match(pod.namespacePaths.get('network') ?? '', /^\/var\/run\/netns\//);
    assert.deepEqual(
      { ...pod.namespaceOptions, userns: undefined },
      { ...request.securityContext?.namespaceOptions, userns: undefined },
    );
  });
}

test('podFromSpec names the annotation that is missing', () => {
  const stored: StoredPod = {
    id: 'i',
    name: 'n',
    imageName: '',
    metadata: { name: '', uid: '', namespace: '', attempt: 0 },
    createdAtNs: 0n,
    privileged: false,
  };
  assert.throws(
    () => podFromSpec({ spec: { ociVersion: '1' }, stored, places }),
    /config\.json has no annotation io\.kubernetes\.cri-o\.Name/,
  );
});
