import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordedPod } from '../../test/golden/recorded.ts';
import { infraName, podName } from './names.ts';
import { parseStorageMetadata, storageMetadata } from './storage-metadata.ts';

const config = recordedPod('hostns');
const plan = {
  id: '72de',
  name: podName(config.metadata),
  infraName: infraName(config.metadata),
  createdAtNs: 1_795_246_033_756_314_847n,
  privileged: true,
  config,
};
const text = storageMetadata({ plan, imageName: 'registry.k8s.io/pause:3.10', imageId: '28a3', mountLabel: '' });

test('storageMetadata writes what CRI-O writes', () => {
  assert.equal(
    text,
    '{"pod-name":"k8s_hostns_kube-system_22222222-2222-2222-2222-222222222222_1","pod-id":"72de",' +
      '"image-name":"registry.k8s.io/pause:3.10","image-id":"28a3",' +
      '"name":"k8s_POD_hostns_kube-system_22222222-2222-2222-2222-222222222222_1","metadata-name":"hostns",' +
      '"uid":"22222222-2222-2222-2222-222222222222","namespace":"kube-system","created-at":1795246033,"attempt":1,"pod":true,"privileged":true}',
  );
});

test('parseStorageMetadata reads it back', () => {
  const stored = parseStorageMetadata(text);
  assert.deepEqual(stored?.metadata, config.metadata);
  assert.deepEqual([stored?.id, stored?.name, stored?.privileged], ['72de', plan.name, true]);
});

test('records of containers and of other tools are no pods', () => {
  for (const other of ['', '{}', '{"name":"podman"}', text.replace('"pod":true,', '')])
    assert.equal(parseStorageMetadata(other), undefined);
});
