import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LinuxResources } from '../../pod/config.ts';
import { capabilityNames } from '../../sys/process.ts';
import type { HostFacts } from './input.ts';
import { chooseResources, clampOomScoreAdj, parseUnified } from './resources.ts';

const host: HostFacts = {
  architecture: 'amd64',
  boundingCapabilities: capabilityNames,
  kernelCapabilities: capabilityNames,
  cgroupV2: false,
  controllers: new Set(['cpu', 'cpuset', 'memory', 'pids', 'hugetlb']),
  memorySwap: true,
  lowestOomScoreAdj: -1000,
  seccomp: true,
  apparmor: false,
  selinux: false,
  thermalThrottlePaths: [],
};

const nothing: LinuxResources = {
  cpuPeriod: 0,
  cpuQuota: 0,
  cpuShares: 0,
  memoryLimitBytes: 0,
  oomScoreAdj: 0,
  cpusetCpus: '',
  cpusetMems: '',
  hugepageLimits: [],
  unified: new Map(),
  memorySwapLimitBytes: 0,
};

function choose(resources: Partial<LinuxResources>, facts: Partial<HostFacts> = {}) {
  return chooseResources({
    id: 'c1',
    resources: { ...nothing, ...resources },
    minMemory: 500 * 1024,
    host: { ...host, ...facts },
  });
}

test('chooseResources writes CPU values even when they are zero', () => {
  assert.deepEqual(choose({}), { cpu: { shares: 0, quota: 0, period: 0 } });
});

test('chooseResources limits swap to the memory limit', () => {
  assert.deepEqual(choose({ memoryLimitBytes: 1 << 24 }).memory, { limit: 1 << 24, swap: 1 << 24 });
  assert.deepEqual(choose({ memoryLimitBytes: 1 << 24 }, { memorySwap: false }).memory, { limit: 1 << 24 });
  assert.deepEqual(choose({ memoryLimitBytes: 1 << 24, memorySwapLimitBytes: -1 }).memory, {
    limit: 1 << 24,
    swap: -1,
  });
});

test("chooseResources refuses limits that make no sense with CRI-O's texts", () => {
  assert.throws(() => choose({ memoryLimitBytes: 1024 }), {
    message: 'set memory limit 1024 too low; should be at least 512000 bytes',
  });
  assert.throws(() => choose({ memoryLimitBytes: -1 }), {
    message: 'set memory limit -1 too low; should be at least 512000 bytes',
  });
  assert.throws(() => choose({ memoryLimitBytes: 2 << 20, memorySwapLimitBytes: 1 << 20 }), {
    message:
      'container c1 create failed because memory swap limit (1048576) cannot be lower than memory limit (2097152)',
  });
});

test('chooseResources skips a missing controller unless a limit needs it', () => {
  const controllers = new Set<string>();
  assert.deepEqual(choose({ cpuShares: 2, hugepageLimits: [{ pageSize: '2MB', limit: 0n }] }, { controllers }), {});
  const missing: [Partial<LinuxResources>, string][] = [
    [{ cpuQuota: 1000 }, 'cpu'],
    [{ memoryLimitBytes: 1 << 24 }, 'memory'],
    [{ cpusetCpus: '0-1' }, 'cpuset'],
    [{ hugepageLimits: [{ pageSize: '2MB', limit: 1n }] }, 'hugetlb'],
  ];
  for (const [wanted, controller] of missing) {
    assert.throws(() => choose(wanted, { controllers }), new RegExp(`the host has no ${controller} cgroup controller`));
  }
});

test('chooseResources uses unified values only on cgroup v2', () => {
  const unified = new Map([['memory.high', '1G']]);
  assert.equal(choose({ unified }).unified, undefined);
  assert.deepEqual(choose({ unified }, { cgroupV2: true }).unified, { 'memory.high': '1G' });
});

test('clampOomScoreAdj stays at what the kernel lets the daemon give', () => {
  assert.equal(clampOomScoreAdj(-998, { lowestOomScoreAdj: 0 }), 0);
  assert.equal(clampOomScoreAdj(-998, { lowestOomScoreAdj: -1000 }), -998);
  assert.equal(clampOomScoreAdj(500, { lowestOomScoreAdj: 0 }), 500);
});

test('parseUnified reads plain and base64 values and refuses paths', () => {
  const values = parseUnified('memory.high=1G;io.max=ODowIHdicHM9MTA0ODU3Ng==;');
  assert.deepEqual(
    [...values],
    [
      ['memory.high', '1G'],
      ['io.max', '8:0 wbps=1048576'],
    ],
  );
  assert.throws(() => parseUnified('../cgroup.procs=1'), /key=value expected/);
  assert.throws(() => parseUnified('memory.high'), /key=value expected/);
});
