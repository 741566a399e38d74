import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Container, ContainerState } from './container.ts';
import { containerFromSpec } from './saved-container.ts';
import { shareSeccomp } from './share-seccomp.ts';
import { decodeState, encodeState } from './state-file.ts';
import { parseSignal, signalName } from './stop-signal.ts';
import { parseProcessStatus } from './processes.ts';
import { chooseUpdate } from './update.ts';
import { storageMetadata } from './name.ts';

/** As CRI-O wrote it for a container that was killed (recorded; annotations left out). */
const recorded = `{"ociVersion":"1.0.2-dev","id":"7acd","status":"stopped","bundle":"/run/b","annotations":{"note":"a \\"quoted\\" \\u003cvalue\\u003e"},"created":"2026-11-21T07:27:14.300438113Z","started":"2026-11-21T07:27:14.355761717Z","finished":"2026-11-21T07:28:39.020427156Z","exitCode":137,"initPid":28634,"initStartTime":"407910","checkpointedTime":"0001-01-01T00:00:00Z","containerMonitorProcess":{"pid":28624,"startTime":"407907"}}
`;

function containerWith(state: ContainerState, createdAtNs: bigint): Container {
  return {
    ...containerFromSpec({
      id: '7acd',
      imageId: '',
      runtimeHandler: '',
      directory: '/d',
      bundle: '/run/b',
      spec,
      state,
    }),
    spec: { ociVersion: '1.0.2-dev', annotations: { note: 'a "quoted" <value>' } },
    createdAtNs,
  };
}

const spec = {
  ociVersion: '1.0.2-dev',
  annotations: {
    'io.container.manager': 'cri-o',
    'io.kubernetes.cri-o.ContainerType': 'container',
    'io.kubernetes.cri-o.Name': 'k8s_a_b_c_d_0',
    'io.kubernetes.cri-o.SandboxID': 'pod',
    'io.kubernetes.cri-o.Metadata': '{"name":"a"}',
    'io.kubernetes.cri-o.Labels': 'null',
    'io.kubernetes.cri-o.Annotations': '{"k":"v"}',
    'io.kubernetes.cri-o.ImageRepoDigests': 'r@sha256:1,r@sha256:2',
    'io.kubernetes.cri-o.Volumes':
      '[{"container_path":"/a","host_path":"/b","readonly":true,"recursive_read_only":false,"propagation":1,"selinux_relabel":false}]',
  },
};

test('decodeState and encodeState give back a state.json of CRI-O byte for byte', () => {
  const { createdAtNs, ...state } = decodeState(recorded);
  assert.equal(state.exitCode, 137);
  assert.deepEqual(state.init, { pid: 28634, startTime: '407910' });
  assert.equal(encodeState(containerWith(state, createdAtNs)), recorded);
});

test('decodeState accepts files without times, processes or exit code, and those with only a pid', () => {
  const state = decodeState('{"status":"running","pid":7,"created":"x"}');
  assert.deepEqual(state.init, { pid: 7, startTime: '' });
  assert.equal(state.exitCode, undefined);
  assert.equal(state.createdAtNs, 0n);
  assert.equal(decodeState('{}').status, 'unknown');
});

test('decodeState takes any text, or refuses it as invalid', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        assert.equal(typeof decodeState(text).status, 'string');
      } catch (error) {
        assert.match(String(error), /decode container state/);
      }
    }),
  );
});

test('what encodeState writes decodeState reads', () => {
  const time = fc.bigInt({ min: 0n, max: 253402300799_000000000n });
  const process = { pid: fc.integer({ min: 1 }), startTime: fc.stringMatching(/^\d{1,9}$/) };
  const ref = fc.option(fc.record(process, { noNullPrototype: true }), { nil: undefined });
  const state = fc.record({
    status: fc.constantFrom('created', 'running', 'paused', 'stopped'),
    init: ref,
    monitor: ref,
    startedAtNs: time,
    finishedAtNs: time,
    exitCode: fc.option(fc.integer({ min: 0, max: 255 }), { nil: undefined }),
    oomKilled: fc.boolean(),
    seccompKilled: fc.boolean(),
    error: fc.string(),
  });
  fc.assert(
    fc.property(state, time, (value, createdAtNs) => {
      const read = decodeState(encodeState(containerWith(value, createdAtNs)));
      assert.deepEqual(read, { ...value, createdAtNs });
    }),
  );
});

test('containerFromSpec reads what CRI-O wrote and names the annotation that is wrong', () => {
  const { createdAtNs: _, ...state } = decodeState(recorded);
  const saved = { id: 'x', imageId: 'img', runtimeHandler: 'h', directory: '/d', bundle: '/b', spec, state };
  const container = containerFromSpec(saved);
  assert.deepEqual(container.metadata, { name: 'a', attempt: 0 });
  assert.equal(container.imageRef, 'r@sha256:1');
  assert.equal(container.annotations.get('k'), 'v');
  assert.equal(container.labels.size, 0);
  assert.equal(container.mounts[0]?.propagation, 1);
  assert.equal(container.stopSignal, 15);
  for (const name of ['Name', 'SandboxID', 'Metadata', 'Labels', 'Annotations', 'ContainerType']) {
    const key = `io.kubernetes.cri-o.${name}`;
    const broken = { ...saved, spec: { ...spec, annotations: { ...spec.annotations, [key]: '' } } };
    assert.throws(() => containerFromSpec(broken), { kind: 'invalid', message: new RegExp(key) });
  }
});

test('parseSignal knows names, numbers and real-time signals, and nothing else', () => {
  assert.equal(parseSignal('SIGTERM'), 15);
  assert.equal(parseSignal('quit'), 3);
  assert.equal(parseSignal('SIGRTMIN+3'), 37);
  assert.equal(parseSignal('RTMAX-1'), 63);
  assert.equal(parseSignal('37'), 37);
  for (const text of ['', '0', '65', '99', 'SIGFOO', 'RTMIN+99', '-1', '15x'])
    assert.equal(parseSignal(text), undefined, text);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 64 }), (number) => {
      // 32 and 33 belong to the C library and have no name.
      if (number === 32 || number === 33) return;
      assert.equal(parseSignal(signalName(number)), number);
    }),
  );
});

test('parseProcessStatus reads handlers and the innermost pid', () => {
  const status = parseProcessStatus('Name:\tsh\nNSpid:\t3021\t1\nSigCgt:\t0000000000014002\n');
  assert.equal(status.innerPid, 1);
  assert.equal(status.hasHandler(15), true);
  assert.equal(status.hasHandler(2), true);
  assert.equal(status.hasHandler(1), false);
  fc.assert(fc.property(fc.string(), (text) => typeof parseProcessStatus(text).hasHandler(15) === 'boolean'));
});

test('chooseUpdate sends what is set, and the memory limit as swap where swap can be limited', () => {
  const none = {
    cpuPeriod: 0,
    cpuQuota: 0,
    cpuShares: 0,
    memoryLimitBytes: 0,
    oomScoreAdj: 5,
    cpusetCpus: '',
    cpusetMems: '',
    hugepageLimits: [],
    unified: new Map([['a.b', '1']]),
    memorySwapLimitBytes: 7,
  };
  assert.deepEqual(chooseUpdate(none, { hasSwap: true, isV2: false }), {});
  assert.deepEqual(chooseUpdate({ ...none, memoryLimitBytes: 9, cpuQuota: -1 }, { hasSwap: true, isV2: true }), {
    memory: { limit: 9, swap: 9 },
    cpu: { quota: -1 },
    unified: { 'a.b': '1' },
  });
  assert.deepEqual(chooseUpdate({ ...none, memoryLimitBytes: 9 }, { hasSwap: false, isV2: false }), {
    memory: { limit: 9 },
  });
});

test('storageMetadata has the keys of CRI-O in its order', () => {
  const options = {
    podName: 'k8s_p',
    podId: '22',
    imageName: 'busybox:1',
    imageId: '4c',
    name: 'k8s_c',
    metadata: { name: 'priv', attempt: 2 },
    mountLabel: '',
    createdAtNs: 1795246033_999999999n,
  };
  assert.equal(
    storageMetadata(options),
    '{"pod-name":"k8s_p","pod-id":"22","image-name":"busybox:1","image-id":"4c","name":"k8s_c","metadata-name":"priv","created-at":1795246033,"attempt":2}',
  );
});

test('shareSeccomp gives equal profiles one copy and keeps different ones apart', () => {
  const specWith = (value: number | bigint) => ({
    ociVersion: '1.0.2',
    linux: {
      seccomp: {
        defaultAction: 'SCMP_ACT_ERRNO',
        syscalls: [
          { names: ['personality'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value, op: 'SCMP_CMP_EQ' }] },
        ],
      },
    },
  });
  const [first, same, other] = [specWith(8n), specWith(8n), specWith(9n)];
  for (const spec of [first, same, other]) shareSeccomp(spec);
  assert.equal(first.linux.seccomp, same.linux.seccomp);
  assert.notEqual(first.linux.seccomp, other.linux.seccomp);
});
