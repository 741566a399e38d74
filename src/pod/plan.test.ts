import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordedPod, recordedSpec, recordings } from '../../test/golden/recorded.ts';
import { defaultConfig, emptyHandler } from '../config/config.ts';
import { annotationKey } from '../runtime/spec/annotation-keys.ts';
import type { PodConfig } from './config.ts';
import { planPod, type PodPlan } from './plan.ts';
import { podName } from './names.ts';

const defaults = defaultConfig();
const config = { ...defaults, runtime: { ...defaults.runtime, cgroupManager: 'cgroupfs' as const } };
const id = 'd2050283325d53b7537fea9420064983920a51f112a9de9bdd766524e635c2a4';

function plan(podConfig: PodConfig, changes: { handler?: string; manager?: 'systemd' | 'cgroupfs' } = {}): PodPlan {
  const runtime = { ...config.runtime, cgroupManager: changes.manager ?? 'cgroupfs' };
  const handler = {
    requested: changes.handler ?? '',
    name: changes.handler ?? 'crun',
    config: { ...emptyHandler(), runtimeType: 'oci' },
  };
  const uuid = '8929b890-6739-4717-b74d-3ecbb68cba85';
  const name = podName(podConfig.metadata);
  return planPod({
    id,
    name,
    uuid,
    createdAtNs: 1n,
    podConfig,
    handler,
    config: { ...config, runtime },
    hostHostname: 'vm',
  });
}

for (const recording of recordings) {
  test(`planPod decides for ${recording} as CRI-O did`, () => {
    const spec = recordedSpec(recording, 'pod');
    const note = (key: string) => spec.annotations?.[key];
    const recordedId = note(annotationKey.sandboxId) ?? '';
    const decided = plan(recordedPod(recording));
    assert.equal(decided.name, note(annotationKey.name));
    assert.equal(decided.infraName, note(annotationKey.containerName));
    assert.equal(decided.hostname, note(annotationKey.hostName));
    assert.equal(decided.logPath.replace(id, recordedId), note(annotationKey.logPath));
    assert.equal(String(decided.hostNetwork), note(annotationKey.hostNetwork));
    assert.equal(String(decided.privileged), note(annotationKey.privilegedRuntime));
    assert.equal(decided.infraKept ? undefined : 'true', note(annotationKey.spoofed));
    assert.deepEqual(Object.fromEntries(decided.labels), JSON.parse(note(annotationKey.labels) ?? ''));
    assert.deepEqual(Object.fromEntries(decided.annotations), JSON.parse(note(annotationKey.annotations) ?? ''));
    assert.deepEqual(Object.fromEntries(decided.sysctls), spec.linux?.sysctl ?? {});
    const kinds = [...decided.namespacePlan.paths.keys()].toSorted();
    const recordedKinds = (spec.linux?.namespaces ?? [])
      .filter((item) => item.path !== undefined)
      .map((item) => item.type);
    assert.deepEqual(kinds, recordedKinds.toSorted());
    assert.equal(
      decided.infraKept ? undefined : decided.infraCgroup?.replace(id, recordedId),
      decided.infraKept ? undefined : spec.linux?.cgroupsPath,
    );
  });
}

const plain = recordedPod('plain');
const security = plain.securityContext;
assert.ok(security?.namespaceOptions);

test('a request without a security context shares everything in the pod', () => {
  const decided = plan({ ...plain, securityContext: undefined });
  assert.deepEqual(decided.namespaces, { network: 0, pid: 0, ipc: 0, targetId: '', userns: undefined });
  assert.equal(decided.infraKept, true);
});

test('kata keeps its infra container', () => {
  assert.equal(plan(plain).infraKept, false);
  assert.equal(plan(plain, { handler: 'Kata-qemu' }).infraKept, true);
});

test('sysctls of a namespace of the host are left out', () => {
  const namespaceOptions = {
    ...security.namespaceOptions,
    network: 2,
    pid: 1,
    ipc: 0,
    targetId: '',
    userns: undefined,
  } as const;
  const decided = plan({ ...plain, securityContext: { ...security, namespaceOptions } });
  assert.equal(decided.sysctls.size, 0);
  assert.equal(decided.warnings.length, 1);
});

test('cgroup parents must suit the manager', () => {
  assert.throws(
    () => plan({ ...plain, cgroupParent: '/a/b.slice' }),
    /received systemd slice as parent: \/a\/b\.slice/,
  );
  assert.throws(() => plan(plain, { manager: 'systemd' }), /did not receive slice as parent/);
  const decided = plan({ ...plain, cgroupParent: '/kubepods.slice/kubepods-pod1.slice' }, { manager: 'systemd' });
  assert.equal(decided.cgroupParent, 'kubepods-pod1.slice');
  assert.equal(decided.infraCgroup, `/kubepods.slice/kubepods-pod1.slice/crio-${id}.scope`);
  assert.equal(plan({ ...plain, cgroupParent: '' }, { manager: 'systemd' }).infraCgroup, undefined);
});

test('user namespaces must be those of the pod or the node', () => {
  const withUserns = (mode: 0 | 1 | 2, size = 65_536) => {
    const mappings = [{ containerId: 0, hostId: 100_000, size }];
    const namespaceOptions = {
      ...security.namespaceOptions,
      network: 0,
      pid: 1,
      ipc: 0,
      targetId: '',
      userns: { mode, uids: mappings, gids: mappings },
    } as const;
    return plan({ ...plain, securityContext: { ...security, namespaceOptions } });
  };
  assert.deepEqual(withUserns(0).owner, { uid: 100_000, gid: 100_000 });
  assert.deepEqual(withUserns(2).owner, { uid: 0, gid: 0 });
  assert.throws(() => withUserns(1), { message: 'unsupported pod mode: "CONTAINER"' });
  assert.throws(() => withUserns(0, 0xffff_ffff), /out of range/);
});

test('labels and log folders are checked', () => {
  const labels = new Map([['a-very-long-key', 'x'.repeat(4096)]]);
  assert.throws(() => plan({ ...plain, labels }), {
    message: 'label key and value greater than maximum size (4096 bytes), key: a-very-lon',
  });
  assert.throws(() => plan({ ...plain, logDirectory: 'logs' }), /is a relative path: logs/);
  assert.equal(plan({ ...plain, logDirectory: '' }).logDirectory, `/var/log/crio/pods/${id}`);
});

test('values with line breaks cannot add lines to files', () => {
  assert.throws(() => plan({ ...plain, hostname: 'a\nb' }), /line breaks are not allowed/);
});
