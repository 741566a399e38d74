import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attachmentOf, bandwidthOf, type NetworkPod } from './pod-attachment.ts';

const pod: NetworkPod = {
  id: 'abc',
  name: 'k8s_p_ns_u_0',
  metadata: { name: 'p', namespace: 'ns', uid: 'u' },
  annotations: new Map(),
  cgroupParent: '',
  portMappings: [{ protocol: 'TCP', containerPort: 1, hostPort: 2, hostIp: '' }],
  netnsPath: '/var/run/netns/x',
};

test('attachmentOf tells plugins about the pod, then the pairs of the daemon', () => {
  const attachment = attachmentOf(pod, 'A=1;broken;B=2');
  assert.deepEqual(attachment.args, [
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAMESPACE', 'ns'],
    ['K8S_POD_NAME', 'p'],
    ['K8S_POD_INFRA_CONTAINER_ID', 'abc'],
    ['K8S_POD_UID', 'u'],
    ['A', '1'],
    ['B', '2'],
  ]);
  assert.deepEqual(attachment.capabilities, { 'io.kubernetes.cri.pod-annotations': {} });
});

test('bandwidthOf gives bits per second, with a burst for the directions that are set', () => {
  const annotations = new Map([['kubernetes.io/ingress-bandwidth', '10M']]);
  assert.deepEqual(bandwidthOf(annotations), {
    ingressRate: 10_000_000,
    ingressBurst: 34_359_738_359,
    egressRate: 0,
    egressBurst: 0,
  });
  assert.equal(bandwidthOf(new Map()), undefined);
  assert.throws(
    () => bandwidthOf(new Map([['kubernetes.io/egress-bandwidth', 'fast']])),
    /failed to parse pod bandwidth/,
  );
});
